//! The greatest of the values of late, in a window of time.
//!
//! linux: lib/win_minmax.c. Key type: [`Minmax`]. Kathleen Nichols' way: the best value, the best since that, and the
//! best since that one are kept, so that when the best grows too old the next one stands ready. It needs three values
//! whatever the window, and is exact but for values that a later and greater one hid.
//! Times are numbers of whatever the caller counts by, and wrap.

/// A value, and when it was.
///
/// linux: include/linux/win_minmax.h:minmax_sample
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sample {
    t: u32,
    v: u32,
}

/// The greatest value of a window, and what may follow it.
///
/// linux: include/linux/win_minmax.h:minmax
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Minmax([Sample; 3]);

impl Minmax {
    /// The greatest.
    ///
    /// linux: include/linux/win_minmax.h:minmax_get
    #[inline]
    pub fn minmax_get(&self) -> u32 {
        self.0[0].v
    }

    /// Forgets all but one value.
    ///
    /// linux: include/linux/win_minmax.h:minmax_reset
    pub fn minmax_reset(&mut self, t: u32, v: u32) {
        self.0 = [Sample { t, v }; 3];
    }

    /// Takes a value in, at a time that is no earlier than the last one's; the greatest of the last `window`.
    ///
    /// linux: lib/win_minmax.c:minmax_running_max
    pub fn minmax_running_max(&mut self, window: u32, t: u32, v: u32) -> u32 {
        let [best, second, third] = &mut self.0;
        if v >= best.v || t.wrapping_sub(third.t) > window {
            self.minmax_reset(t, v);
            return v;
        }
        if v >= second.v {
            (*second, *third) = (Sample { t, v }, Sample { t, v });
        } else if v >= third.v {
            *third = Sample { t, v };
        }
        self.minmax_subwin_update(window, Sample { t, v })
    }

    /// What is too old makes room; a part of the window that brought nothing that was kept has its last value
    /// kept, so that there is one to follow.
    ///
    /// linux: lib/win_minmax.c:minmax_subwin_update
    fn minmax_subwin_update(&mut self, window: u32, last: Sample) -> u32 {
        let [best, second, third] = self.0;
        let age = last.t.wrapping_sub(best.t);
        if age > window {
            self.0 = [second, third, last];
            if last.t.wrapping_sub(second.t) > window {
                self.0 = [third, last, last];
            }
        } else if second.t == best.t && age > window / 4 {
            self.0 = [best, last, last];
        } else if third.t == second.t && age > window / 2 {
            self.0[2] = last;
        }
        self.minmax_get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(window: u32, values: &[(u32, u32)]) -> Vec<u32> {
        let mut max = Minmax::default();
        values.iter().map(|(t, v)| max.minmax_running_max(window, *t, *v)).collect()
    }

    #[test]
    fn the_greatest_stays_for_a_window() {
        let values: Vec<_> = (0..16).map(|t| (t, if t == 2 { 100 } else { 50 })).collect();
        let greatest = run(10, &values);
        assert_eq!(greatest[..2], [50, 50]);
        assert!(greatest[2..=12].iter().all(|v| *v == 100), "{greatest:?}");
        assert!(greatest[13..].iter().all(|v| *v == 50), "{greatest:?}");
    }

    #[test]
    fn what_follows_the_greatest_stands_ready() {
        let falling: Vec<_> = (0..40).map(|t| (t, 1000 - t * 10)).collect();
        for (t, greatest) in run(10, &falling).into_iter().enumerate() {
            let t = t as u32;
            let oldest = t.saturating_sub(10);
            let (exact, later) = (1000 - oldest * 10, 1000 - (oldest + 5).min(t) * 10);
            assert!((later..=exact).contains(&greatest), "{t}: {greatest}, {exact} at the most");
        }
    }

    #[test]
    fn rising_values_and_silence_leave_the_last() {
        let rising: Vec<_> = (0..40).map(|t| (t, t)).collect();
        assert!(run(10, &rising).into_iter().eq(0..40));
        assert_eq!(run(10, &[(0, 9), (11, 3), (30, 2)]), [9, 3, 2]);
    }

    #[test]
    fn times_wrap() {
        let mut max = Minmax::default();
        max.minmax_reset(u32::MAX - 3, 7);
        let got: Vec<u32> = (0..14_u32)
            .map(|n| max.minmax_running_max(10, (u32::MAX - 2).wrapping_add(n), 5))
            .collect();
        assert_eq!((got[9], got[10]), (7, 5));
    }
}
