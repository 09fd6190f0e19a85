//! What runs here: version, recipe, keys, and the disk it was booted from.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::disk::Disk;
use crate::keys::Keys;
use crate::mount::Mounted;
use crate::options::Options;
use crate::version::Version;

pub struct Here {
    pub version: Version,
    pub recipe: String,
    pub keys: Keys,
    /// None when this was not booted from a slot.
    pub disk: Option<PathBuf>,
    /// UUID of the booted root.
    booted: Option<String>,
    esp: Option<PathBuf>,
    state_dir: PathBuf,
}

impl Here {
    /// Also what is odd, for the log.
    pub fn look(options: &Options) -> Result<(Here, Vec<String>), String> {
        let usr = options.tree.join("usr/lib");
        let release = fs::read_to_string(usr.join("os-release")).unwrap_or_default();
        let of_image = release.lines().find_map(|line| line.strip_prefix("IMAGE_VERSION=")).map(|text| text.trim_matches('"').to_owned());
        let version = of_image.unwrap_or_else(|| env!("CARGO_PKG_VERSION").to_owned()).parse()?;
        let recipe = fs::read_to_string(usr.join("portcullis/recipe")).unwrap_or_default().trim().to_owned();
        let (keys, remarks) = Keys::read(&usr.join("portcullis/update-keys"));
        let hash = options.root_hash.clone().or_else(|| root_hash(&fs::read_to_string("/proc/cmdline").unwrap_or_default()));
        let booted = hash.as_deref().and_then(uuid_of_hash);
        let disk = options.disk.clone().or_else(|| disk_of(booted.as_deref()?));
        Ok((Here { version, recipe, keys, disk, booted, esp: options.esp.clone(), state_dir: options.state_dir.clone() }, remarks))
    }

    /// The slots, with the boot partition mounted as long as the second part lives.
    pub fn medium(&self) -> io::Result<(Disk, Option<Mounted>)> {
        let device = self.disk.as_ref().ok_or_else(|| io::Error::other("this box was not booted from a slot of an image"))?;
        let (esp, mounted) = match &self.esp {
            Some(folder) => (folder.clone(), None),
            None => {
                let at = self.state_dir.join("esp");
                let mounted = Mounted::new(&Disk::boot_partition(device)?, &at, "vfat", true)?;
                (at, Some(mounted))
            }
        };
        Ok((Disk::new(device.clone(), esp, self.booted.clone()), mounted))
    }

    /// FAT has no journal: after a power cut two names may claim the same bytes.
    pub fn repair_boot_partition(&self) -> Result<(), String> {
        let (Some(device), None) = (&self.disk, &self.esp) else { return Ok(()) };
        let partition = Disk::boot_partition(device).map_err(|error| error.to_string())?;
        let output = Command::new("fsck.fat")
            .args(["-a", "-w"])
            .arg(&partition)
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("fsck.fat: {error}"))?;
        match output.status.code() {
            // 1 says that something was repaired.
            Some(0 | 1) => Ok(()),
            _ => Err(format!("fsck.fat: {}", String::from_utf8_lossy(&output.stdout).trim())),
        }
    }
}

fn root_hash(command_line: &str) -> Option<String> {
    command_line.split_whitespace().find_map(|word| word.strip_prefix("roothash=")).map(str::to_owned)
}

/// The root's partition has the first half of the hash as its UUID.
fn uuid_of_hash(hash: &str) -> Option<String> {
    let half = hash.get(..32).filter(|half| half.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    Some(format!("{}-{}-{}-{}-{}", &half[..8], &half[8..12], &half[12..16], &half[16..20], &half[20..]))
}

fn disk_of(uuid: &str) -> Option<PathBuf> {
    let partition = fs::canonicalize(Path::new("/dev/disk/by-partuuid").join(uuid.to_ascii_lowercase())).ok()?;
    let place = fs::canonicalize(Path::new("/sys/class/block").join(partition.file_name()?)).ok()?;
    Some(Path::new("/dev").join(place.parent()?.file_name()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_booted_root_is_named_by_its_hash() {
        let line = "console=ttyS0 roothash=69f4ca50c5d232771b2cbd922e7d62690b6f6e08ff831b6511ff9ae62f0d07ce panic=10";
        let uuid = root_hash(line).as_deref().and_then(uuid_of_hash);
        assert_eq!(uuid.as_deref(), Some("69f4ca50-c5d2-3277-1b2c-bd922e7d6269"));
        assert_eq!(root_hash("console=ttyS0"), None);
        assert_eq!(uuid_of_hash("69f4"), None);
        assert_eq!(uuid_of_hash(&"é".repeat(32)), None);
    }
}
