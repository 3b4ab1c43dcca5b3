//! Octets of a fuzzer, as answers to questions.

/// Taken from the front. When all are taken, each answer is nought.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    /// All of them.
    #[must_use]
    pub fn new(octets: &'a [u8]) -> Self {
        Self(octets)
    }

    /// All were taken.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// So many, or those that there are.
    pub fn octets(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let taken = self.octets(N);
        array[..taken.len()].copy_from_slice(taken);
        array
    }

    /// An octet.
    pub fn u8(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    /// Two octets.
    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    /// Four octets.
    pub fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    /// A bit, of an octet of its own.
    pub fn flag(&mut self) -> bool {
        self.u8() & 1 != 0
    }

    /// One of these.
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::from(self.u8()) % of.len()]
    }

    /// A number below a limit.
    pub fn below(&mut self, limit: usize) -> usize {
        usize::from(self.u16()) % limit.max(1)
    }

    /// One of these numbers, now and then any.
    pub fn number(&mut self, of: &[i32]) -> i32 {
        let which = usize::from(self.u8());
        of.get(which % (of.len() + 1)).copied().unwrap_or_else(|| self.u32() as i32)
    }

    /// Its length first.
    pub fn string(&mut self, most: usize) -> &'a [u8] {
        let len = usize::from(self.u16());
        self.octets(len.min(most))
    }
}
