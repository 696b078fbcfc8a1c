//! The names in a directory. std's `read_dir` ends the program where closedir(3) fails; here that is nothing to anybody.

use std::path::Path;

use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, openat};
use rustix::io::Result;

/// The names in a directory that are UTF-8, with their kind, in the kernel's order; those of `.` and `..` left out.
pub fn names(path: &Path) -> Result<Vec<(String, FileType)>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut names = Vec::new();
    for entry in Dir::new(openat(CWD, path, flags, Mode::empty())?)? {
        let entry = entry?;
        if let Ok(name) = entry.file_name().to_str()
            && !matches!(name, "." | "..")
        {
            names.push((name.to_owned(), entry.file_type()));
        }
    }
    Ok(names)
}

/// The names that are numbers, as those of processes in /proc and of threads in its directories.
pub fn numbers(path: &Path) -> Result<Vec<i32>> {
    names(path).map(|names| names.iter().filter_map(|(name, _)| name.parse().ok()).collect())
}

/// The numbers in /proc.
pub fn processes() -> Result<Vec<i32>> {
    numbers(Path::new("/proc"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;

    #[test]
    fn names_and_kinds_are_listed() {
        let top = std::env::temp_dir().join(format!("hull-listing-{}", std::process::id()));
        std::fs::create_dir_all(top.join("directory")).unwrap();
        std::fs::write(top.join("file"), "").unwrap();
        let mut found = names(&top).unwrap();
        found.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let of_a_file = names(&top.join("file"));
        std::fs::remove_dir_all(&top).unwrap();
        assert_eq!(found, [("directory".into(), FileType::Directory), ("file".into(), FileType::RegularFile)]);
        assert_eq!(of_a_file, Err(Errno::NOTDIR));
        assert_eq!(names(&top), Err(Errno::NOENT));
        assert!(processes().unwrap().contains(&std::process::id().cast_signed()));
    }
}
