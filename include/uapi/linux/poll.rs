//! Readiness as poll(2) and epoll(7) number it.

consts! { i16:
    /// There is data to read.
    POLLIN = 0x001;
    /// There is an exceptional condition.
    POLLPRI = 0x002;
    /// Writing would not block.
    POLLOUT = 0x004;
    /// There is an error.
    POLLERR = 0x008;
    /// Both directions are shut.
    POLLHUP = 0x010;
    /// The descriptor is not open.
    POLLNVAL = 0x020;
    /// There is normal data to read.
    POLLRDNORM = 0x040;
    /// There is priority data to read.
    POLLRDBAND = 0x080;
    /// Writing normal data would not block.
    POLLWRNORM = 0x100;
    /// Writing priority data would not block.
    POLLWRBAND = 0x200;
    /// A message is available; unused.
    POLLMSG = 0x400;
    /// Remove from the set; unused.
    POLLREMOVE = 0x1000;
    /// The peer will send no more.
    POLLRDHUP = 0x2000;
}

consts! { u32:
    /// There is data to read.
    EPOLLIN = 0x001;
    /// There is an exceptional condition.
    EPOLLPRI = 0x002;
    /// Writing would not block.
    EPOLLOUT = 0x004;
    /// There is an error.
    EPOLLERR = 0x008;
    /// Both directions are shut.
    EPOLLHUP = 0x010;
    /// The descriptor is not open.
    EPOLLNVAL = 0x020;
    /// There is normal data to read.
    EPOLLRDNORM = 0x040;
    /// There is priority data to read.
    EPOLLRDBAND = 0x080;
    /// Writing normal data would not block.
    EPOLLWRNORM = 0x100;
    /// Writing priority data would not block.
    EPOLLWRBAND = 0x200;
    /// A message is available; unused.
    EPOLLMSG = 0x400;
    /// The peer will send no more.
    EPOLLRDHUP = 0x2000;
    /// Wake one waiter rather than all.
    EPOLLEXCLUSIVE = 1 << 28;
    /// Keep the system awake while the event is handled.
    EPOLLWAKEUP = 1 << 29;
    /// Disarm after one event.
    EPOLLONESHOT = 1 << 30;
    /// Report edges rather than levels.
    EPOLLET = 1 << 31;
}

consts! { i32:
    /// Add a descriptor.
    EPOLL_CTL_ADD = 1;
    /// Remove a descriptor.
    EPOLL_CTL_DEL = 2;
    /// Change what is watched for.
    EPOLL_CTL_MOD = 3;
    /// Close the epoll descriptor on exec.
    EPOLL_CLOEXEC = 0o2000000;
}

/// Octets in an `epoll_event` on x86-64, which packs it.
pub const EPOLL_EVENT_LEN: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_match_libc() {
        macro_rules! same { ($($n:ident)*) => { $(assert_eq!($n as i64, libc::$n as i64, stringify!($n));)* } }
        same!(POLLIN POLLPRI POLLOUT POLLERR POLLHUP POLLNVAL POLLRDNORM POLLRDBAND POLLWRNORM
            POLLWRBAND POLLRDHUP EPOLL_CTL_ADD EPOLL_CTL_DEL EPOLL_CTL_MOD EPOLL_CLOEXEC);
        macro_rules! same { ($($n:ident)*) => { $(assert_eq!($n, libc::$n as u32, stringify!($n));)* } }
        same!(EPOLLIN EPOLLPRI EPOLLOUT EPOLLERR EPOLLHUP EPOLLRDNORM EPOLLRDBAND EPOLLWRNORM
            EPOLLWRBAND EPOLLMSG EPOLLRDHUP EPOLLEXCLUSIVE EPOLLWAKEUP EPOLLONESHOT EPOLLET);
    }
}
