//! Wait queues: who is to be woken when a condition may have changed.
//!
//! linux: include/linux/wait.h, kernel/wait.c. Key types: [`WaitQueue`], [`WaitCallback`].
//! The queue has no lock of its own: it lies in what its condition lies in (a socket's state), so
//! "look, then sleep" and "change, then wake" are each one critical section and nothing is lost.

use std::fmt;
use std::sync::Arc;
use std::task::Waker;

/// Called instead of waking a task (epoll). Context: any, under the lock of what is waited for:
/// takes only locks of higher rank and wakes nobody itself.
pub trait WaitCallback: Send + Sync {
    /// The condition of `events` (`POLL*` bits) may have changed; tasks to wake go into `wakeups`.
    /// True if there were any.
    fn wake(&self, events: u32, wakeups: &mut Vec<Waker>) -> bool;
}

enum Who {
    Task(Waker),
    Callback(Arc<dyn WaitCallback>),
}

struct Waiter {
    key: u64,
    events: u32,
    exclusive: bool,
    who: Who,
}

/// Names a place in a wait queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitKey(u64);

/// Tasks and callbacks waiting for a condition.
///
/// linux: include/linux/wait.h:wait_queue_head
#[derive(Default)]
pub struct WaitQueue {
    waiters: Vec<Waiter>,
    next: u64,
}

impl WaitQueue {
    /// Nobody waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }

    /// Puts a task in, or renews its waker: to be woken for any of `events`. One exclusive waiter
    /// is woken a time, so that a datagram does not wake a herd.
    ///
    /// linux: kernel/wait.c:prepare_to_wait_exclusive
    pub fn prepare_to_wait(&mut self, key: &mut Option<WaitKey>, events: u32, waker: &Waker) {
        if let Some(waiter) = key.and_then(|key| self.waiters.iter_mut().find(|w| w.key == key.0)) {
            waiter.who = Who::Task(waker.clone());
            return;
        }
        *key = Some(self.insert(events, true, Who::Task(waker.clone())));
    }

    /// Puts a task in that looks at several conditions (poll): woken with all others.
    pub fn add_wait(&mut self, events: u32, waker: &Waker) -> WaitKey {
        self.insert(events, false, Who::Task(waker.clone()))
    }

    /// Puts a callback in, called for any of `events` until removed; an exclusive one (epoll's
    /// `EPOLLEXCLUSIVE`) not when another exclusive waiter was woken already.
    pub fn add_callback(
        &mut self,
        events: u32,
        callback: Arc<dyn WaitCallback>,
        exclusive: bool,
    ) -> WaitKey {
        self.insert(events, exclusive, Who::Callback(callback))
    }

    fn insert(&mut self, events: u32, exclusive: bool, who: Who) -> WaitKey {
        self.next += 1;
        self.waiters.push(Waiter { key: self.next, events, exclusive, who });
        WaitKey(self.next)
    }

    /// Takes a waiter out; false if a wake-up took it already.
    ///
    /// linux: kernel/wait.c:finish_wait
    pub fn finish_wait(&mut self, key: WaitKey) -> bool {
        let before = self.waiters.len();
        self.waiters.retain(|waiter| waiter.key != key.0);
        self.waiters.len() != before
    }

    /// Wakes who waits for any of `events`: every callback and non-exclusive task, and the first
    /// exclusive one, which leaves the queue. The wakers go into `wakeups`, to be fired later. True
    /// if there were callbacks.
    ///
    /// linux: kernel/wait.c:__wake_up_sync_key
    pub fn wake_up(&mut self, events: u32, wakeups: &mut Vec<Waker>) -> bool {
        self.wake(events, 1, wakeups)
    }

    /// Wakes everybody who waits for any of `events`.
    pub fn wake_up_all(&mut self, events: u32, wakeups: &mut Vec<Waker>) -> bool {
        self.wake(events, usize::MAX, wakeups)
    }

    fn wake(&mut self, events: u32, mut exclusive: usize, wakeups: &mut Vec<Waker>) -> bool {
        let mut called = false;
        self.waiters.retain(|waiter| {
            if waiter.events & events == 0 {
                return true;
            }
            match &waiter.who {
                Who::Callback(callback) => {
                    called = true;
                    if !waiter.exclusive {
                        callback.wake(events, wakeups);
                    } else if exclusive != 0 && callback.wake(events, wakeups) {
                        exclusive -= 1;
                    }
                    true
                }
                Who::Task(waker) if !waiter.exclusive => {
                    wakeups.push(waker.clone());
                    true
                }
                Who::Task(_) if exclusive == 0 => true,
                Who::Task(waker) => {
                    exclusive -= 1;
                    wakeups.push(waker.clone());
                    false
                }
            }
        });
        called
    }
}

impl fmt::Debug for WaitQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WaitQueue({} waiting)", self.waiters.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_exclusive_waiter_a_time_and_all_others() {
        let mut queue = WaitQueue::default();
        let (mut first, mut second) = (None, None);
        queue.prepare_to_wait(&mut first, 1, Waker::noop());
        queue.prepare_to_wait(&mut second, 1, Waker::noop());
        queue.prepare_to_wait(&mut second, 1, Waker::noop());
        let poller = queue.add_wait(1, Waker::noop());
        let mut wakeups = Vec::new();
        queue.wake_up(1, &mut wakeups);
        assert_eq!(wakeups.len(), 2, "one exclusive waiter and the poller");
        assert!(!queue.finish_wait(first.expect("was put in")), "woken: no longer queued");
        assert!(queue.finish_wait(second.expect("was put in")));
        assert!(queue.finish_wait(poller));
        assert!(queue.is_empty());
    }

    #[test]
    fn other_events_wake_nobody() {
        let mut queue = WaitQueue::default();
        queue.add_wait(1, Waker::noop());
        let mut wakeups = Vec::new();
        queue.wake_up_all(2, &mut wakeups);
        assert!(wakeups.is_empty());
    }
}
