//! Programs of classic BPF, as the kernel takes them.

use crate::calls::Ret;
use libc::socklen_t;

/// The kernel takes a pointer to the program, and counts its instructions.
pub(super) fn sock_fprog(fd: i32, (level, name): (i32, i32), program: &[u8]) -> Ret {
    const SIZE: usize = size_of::<libc::sock_filter>();
    if !program.len().is_multiple_of(SIZE) {
        // What can't be said that way is refused by both.
        return Err(libc::EINVAL);
    }
    let mut aligned: Vec<u64> = program
        .chunks_exact(SIZE)
        .map(|octets| octets.try_into().map_or(0, u64::from_ne_bytes))
        .collect();
    let fprog = libc::sock_fprog { len: aligned.len() as u16, filter: aligned.as_mut_ptr().cast() };
    let len = size_of_val(&fprog) as socklen_t;
    // SAFETY: the structure says where the program lies and how long it is; both outlive the call.
    super::ret(unsafe { libc::setsockopt(fd, level, name, (&raw const fprog).cast(), len) })
}
