//! Writes to files of the kernel, each of which is one value in one write(2).
#![forbid(unsafe_code)]

use std::os::fd::AsFd;

use rustix::io::Errno;

/// Writes a value whole. Many of these files take a page and no more (kernfs, /proc/PID/attr): what they cut off would be
/// a limit or a label that is not in force, so a short write is EMSGSIZE.
pub fn write(fd: impl AsFd, value: &[u8]) -> rustix::io::Result<()> {
    match rustix::io::write(fd, value)? {
        written if written == value.len() => Ok(()),
        _ => Err(Errno::MSGSIZE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_write_is_an_error() {
        use rustix::fs::OFlags;
        let (read, write_end) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::NONBLOCK).unwrap();
        let room = rustix::pipe::fcntl_getpipe_size(&read).unwrap();
        assert_eq!(write(&write_end, &vec![b'x'; room + 1]), Err(Errno::MSGSIZE));
        assert!(rustix::fs::fcntl_getfl(&read).unwrap().contains(OFlags::NONBLOCK));
        let mut all = vec![0; room];
        rustix::io::read(&read, &mut all).unwrap();
        assert_eq!(write(&write_end, b"value"), Ok(()));
    }
}
