//! A volume that is mounted as long as this lives. The unit gives the process a mount namespace of its own: nobody else sees it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

#[derive(Debug)]
pub struct Mounted {
    path: PathBuf,
}

impl Mounted {
    pub fn new(device: &Path, at: &Path, kind: &str, writable: bool) -> io::Result<Mounted> {
        fs::create_dir_all(at)?;
        let mut flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        flags.set(MsFlags::MS_RDONLY, !writable);
        let data = match kind {
            // Its iocharset=utf8 would tell upper case from lower.
            "vfat" => Some("umask=0077,utf8=1"),
            "exfat" => Some("umask=0077,iocharset=utf8"),
            _ => None,
        };
        mount(Some(device), at, Some(kind), flags, data)
            .map_err(|error| io::Error::other(format!("{} cannot be mounted as {kind}: {error}", device.display())))?;
        Ok(Mounted { path: at.to_owned() })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Open files keep the volume until they are closed.
        let _ = umount2(&self.path, MntFlags::MNT_DETACH);
    }
}
