//! File flags and commands, in x86-64's numbers.

consts! { i32:
    /// The bits that hold the access mode.
    O_ACCMODE = 0o3;
    /// Read only.
    O_RDONLY = 0o0;
    /// Write only.
    O_WRONLY = 0o1;
    /// Read and write.
    O_RDWR = 0o2;
    /// Create the file.
    O_CREAT = 0o100;
    /// Fail when the file exists.
    O_EXCL = 0o200;
    /// Take no controlling terminal.
    O_NOCTTY = 0o400;
    /// Empty the file.
    O_TRUNC = 0o1000;
    /// Write at the end.
    O_APPEND = 0o2000;
    /// Do not block.
    O_NONBLOCK = 0o4000;
    /// Do not block; the old name.
    O_NDELAY = O_NONBLOCK;
    /// Write data through.
    O_DSYNC = 0o10000;
    /// Signal readiness.
    O_ASYNC = 0o20000;
    /// Bypass the page cache.
    O_DIRECT = 0o40000;
    /// Allow 64-bit sizes.
    O_LARGEFILE = 0o100000;
    /// Fail unless it is a directory.
    O_DIRECTORY = 0o200000;
    /// Do not follow a symbolic link.
    O_NOFOLLOW = 0o400000;
    /// Do not update the access time.
    O_NOATIME = 0o1000000;
    /// Close on exec.
    O_CLOEXEC = 0o2000000;
    /// Write data and metadata through.
    O_SYNC = 0o4010000;
    /// Only name the file.
    O_PATH = 0o10000000;
    /// Duplicate the descriptor.
    F_DUPFD = 0;
    /// Read the descriptor's flags.
    F_GETFD = 1;
    /// Set the descriptor's flags.
    F_SETFD = 2;
    /// Read the file's flags.
    F_GETFL = 3;
    /// Set the file's flags.
    F_SETFL = 4;
    /// Test for a lock.
    F_GETLK = 5;
    /// Set or clear a lock.
    F_SETLK = 6;
    /// Set or clear a lock, waiting.
    F_SETLKW = 7;
    /// Set who is signalled.
    F_SETOWN = 8;
    /// Read who is signalled.
    F_GETOWN = 9;
    /// Set which signal is sent.
    F_SETSIG = 10;
    /// Read which signal is sent.
    F_GETSIG = 11;
    /// Set who is signalled, threads included.
    F_SETOWN_EX = 15;
    /// Read who is signalled, threads included.
    F_GETOWN_EX = 16;
    /// Duplicate the descriptor, to be closed on exec.
    F_DUPFD_CLOEXEC = 1030;
    /// Set the capacity of a pipe.
    F_SETPIPE_SZ = 1031;
    /// Read the capacity of a pipe.
    F_GETPIPE_SZ = 1032;
    /// Descriptor flag: close on exec.
    FD_CLOEXEC = 1;
    /// Seek from the start.
    SEEK_SET = 0;
    /// Seek from where it stands.
    SEEK_CUR = 1;
    /// Seek from the end.
    SEEK_END = 2;
    /// Close a memory file on exec.
    MFD_CLOEXEC = 1;
}

consts! { u32:
    /// Move pages rather than copy them: a hint.
    SPLICE_F_MOVE = 1;
    /// Do not wait at the pipe.
    SPLICE_F_NONBLOCK = 2;
    /// More will follow.
    SPLICE_F_MORE = 4;
    /// Pages are given away.
    SPLICE_F_GIFT = 8;
}

/// Octets that a pipe takes as one, or not at all.
pub const PIPE_BUF: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_match_libc() {
        macro_rules! same { ($($n:ident)*) => { $(assert_eq!($n, libc::$n, stringify!($n));)* } }
        same!(O_ACCMODE O_RDONLY O_WRONLY O_RDWR O_CREAT O_EXCL O_NOCTTY O_TRUNC O_APPEND
            O_NONBLOCK O_NDELAY O_DSYNC O_ASYNC O_DIRECT O_DIRECTORY O_NOFOLLOW O_NOATIME
            O_CLOEXEC O_SYNC O_PATH F_DUPFD F_GETFD F_SETFD F_GETFL F_SETFL F_GETLK F_SETLK
            F_SETLKW F_SETOWN F_GETOWN F_DUPFD_CLOEXEC F_SETPIPE_SZ F_GETPIPE_SZ FD_CLOEXEC SEEK_SET SEEK_CUR SEEK_END);
        same!(SPLICE_F_MOVE SPLICE_F_NONBLOCK SPLICE_F_MORE SPLICE_F_GIFT PIPE_BUF);
        assert_eq!(MFD_CLOEXEC, libc::MFD_CLOEXEC as i32);
    }
}
