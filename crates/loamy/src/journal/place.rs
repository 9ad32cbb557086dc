//! Which files a journal is, where they may lie, and who may use them.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Deref;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::trouble::{JournalError, Trouble};

/// Only its owner may read what came back.
const MODE: u32 = 0o600;

/// The journals that this process has open, by device and inode.
///
/// SQLite's locks are those of POSIX, which are the process's: a second descriptor of the same file, closed, would let go
/// of them (SQLite, "How To Corrupt", §2.2). So nobody here opens a file that is open already.
static OPEN: Mutex<Option<HashSet<(u64, u64)>>> = Mutex::new(None);

/// The journal's files.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) index: PathBuf,
    /// SQLite's write-ahead log.
    pub(super) log: PathBuf,
    pub(super) part: PathBuf,
    /// What the part file is called once all is done.
    pub(super) bodies: PathBuf,
    /// An index that is being made anew, until it takes the place of the damaged one.
    pub(super) rebuilt: PathBuf,
    folder: PathBuf,
    claimed: Option<(u64, u64)>,
}

impl Place {
    /// Claims the journal for this process's own part, and makes the index file if there is none.
    pub(super) fn claim(path: &Path) -> Result<Self, JournalError> {
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
            _ => PathBuf::from("."),
        };
        refuse_network(&folder)?;
        let with = |suffix: &str| {
            let mut name = path.as_os_str().to_owned();
            name.push(suffix);
            PathBuf::from(name)
        };
        let mut place = Self {
            index: path.to_owned(),
            log: with("-wal"),
            part: with(".part"),
            bodies: with(".bodies"),
            rebuilt: with(".rebuilt"),
            folder,
            claimed: None,
        };
        match std::fs::metadata(path) {
            Ok(found) if !found.is_file() => {
                return Err(JournalError::new(
                    Trouble::OtherFormat,
                    format!("{} is no file", path.display()),
                ));
            }
            Ok(_) => refuse_network(path)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                OpenOptions::new()
                    .write(true)
                    .create(true)
                    .truncate(false)
                    .mode(MODE)
                    .open(path)
                    .map_err(|error| JournalError::system("make the journal", path, error))?;
                place.sync_folder()?;
            }
            Err(error) => return Err(JournalError::system("open the journal", path, error)),
        }
        let found =
            std::fs::metadata(path).map_err(|error| JournalError::system("open the journal", path, error))?;
        let own = (found.dev(), found.ino());
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        if !open.get_or_insert_default().insert(own) {
            return Err(in_use(path, "another batch of this process uses it"));
        }
        place.claimed = Some(own);
        Ok(place)
    }

    /// What the lock of another process looks like from here.
    pub(super) fn in_use(&self) -> JournalError {
        // No lock of this process is at stake: it has none, or SQLite would not have been refused.
        let holder = File::open(&self.index).ok().and_then(|file| {
            let asked = rustix::process::Flock::from(rustix::process::FlockType::WriteLock);
            rustix::process::fcntl_getlk(&file, &asked).ok().flatten().and_then(|found| found.pid)
        });
        match holder {
            Some(pid) => in_use(&self.index, &format!("process {} uses it", pid.as_raw_nonzero())),
            None => in_use(&self.index, "another process uses it"),
        }
    }

    /// The part file under the name that it has.
    pub(super) fn find_part(&self) -> Result<Option<(PathBuf, Locked)>, JournalError> {
        for path in [&self.bodies, &self.part] {
            match OpenOptions::new().read(true).append(true).open(path) {
                Ok(file) => {
                    return Ok(Some((path.clone(), self.lock_part(path, file)?)));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(JournalError::system("open", path, error)),
            }
        }
        Ok(None)
    }

    /// Removes what a rebuild has left that was cut short, of a journal that is begun anew: beside a part file it would say that this
    /// one's index is lost.
    pub(super) fn forget_rebuilt(&self) -> Result<(), JournalError> {
        match std::fs::remove_file(&self.rebuilt) {
            // It must not be back after a crash that the part file outlives.
            Ok(()) => self.sync_folder(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(JournalError::system("remove", &self.rebuilt, error)),
        }
    }

    pub(super) fn make_part(&self) -> Result<Locked, JournalError> {
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(MODE)
            .open(&self.part)
            .map_err(|error| JournalError::system("make", &self.part, error))?;
        self.lock_part(&self.part, file)
    }

    /// A second lock, for while the index is made anew and has none.
    fn lock_part(&self, path: &Path, file: File) -> Result<Locked, JournalError> {
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Locked(file)),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(in_use(&self.index, "another process uses it")),
            Err(error) => Err(JournalError::system("lock", path, error.into())),
        }
    }

    /// Makes names durable.
    pub(super) fn sync_folder(&self) -> Result<(), JournalError> {
        File::open(&self.folder)
            .and_then(|folder| folder.sync_all())
            .map_err(|error| JournalError::system("sync", &self.folder, error))
    }
}

/// A file that nobody else uses while it is open here.
///
/// A process that this one forks has the same open file, lock included, until it is another program or ends. So the lock is
/// let go of in so many words; to close the file would leave it with the fork.
#[derive(Debug)]
pub(super) struct Locked(File);

impl Deref for Locked {
    type Target = File;

    fn deref(&self) -> &File {
        &self.0
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        // Nothing is lost if it fails: closing it lets go of it too, once no fork has it.
        let _ = rustix::fs::flock(&self.0, rustix::fs::FlockOperation::Unlock);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(own) = self.claimed {
            let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
            open.get_or_insert_default().remove(&own);
        }
    }
}

fn in_use(path: &Path, who: &str) -> JournalError {
    JournalError::new(Trouble::InUse, format!("the journal {} is in use: {who}", path.display()))
        .with_hint("wait until that run has ended, or name another journal")
}

/// Locks and syncs of network file systems promise less than they seem to.
#[cfg(target_os = "linux")]
fn refuse_network(path: &Path) -> Result<(), JournalError> {
    let found =
        rustix::fs::statfs(path).map_err(|error| JournalError::system("look at", path, error.into()))?;
    let magic = found.f_type as u32;
    let kind = if magic == FUSE { fuse_kind(path) } else { network_kind(magic).map(str::to_owned) };
    let Some(kind) = kind else { return Ok(()) };
    let message = format!(
        "{} lies on a network file system ({kind}), where locks and syncs cannot be trusted",
        path.display()
    );
    Err(JournalError::new(Trouble::NetworkFileSystem, message).with_hint("put the journal on a local disk"))
}

#[cfg(not(target_os = "linux"))]
fn refuse_network(_: &Path) -> Result<(), JournalError> {
    Ok(())
}

#[cfg(target_os = "linux")]
const FUSE: u32 = 0x6573_5546;

/// The magic numbers of statfs(2) and linux/magic.h.
#[cfg(target_os = "linux")]
fn network_kind(magic: u32) -> Option<&'static str> {
    Some(match magic {
        0x0000_6969 => "nfs",
        0xff53_4d42 => "cifs",
        0xfe53_4d42 => "smb2",
        0x0000_517b => "smb",
        0x0102_1997 => "9p",
        0x00c3_6400 => "ceph",
        0x5346_414f | 0x6b41_4653 => "afs",
        0x7375_7245 => "coda",
        0x0bd0_0bd0 => "lustre",
        0x4750_4653 => "gpfs",
        0x0000_564c => "ncp",
        0x1983_0326 => "beegfs",
        _ => return None,
    })
}

/// A file system in user space may be a local one. Its name is in the table of mounts.
#[cfg(target_os = "linux")]
fn fuse_kind(path: &Path) -> Option<String> {
    let device = std::fs::metadata(path).ok()?.dev();
    let device = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    fuse_kind_in(&mounts, &device)
}

#[cfg(target_os = "linux")]
fn fuse_kind_in(mounts: &str, device: &str) -> Option<String> {
    const LOCAL: [&str; 4] = ["fuseblk", "fuse.fuse-overlayfs", "fuse.mergerfs", "fuse.bindfs"];
    let kind = mounts
        .lines()
        .find(|line| line.split(' ').nth(2) == Some(device))
        .and_then(|line| line.split(" - ").nth(1)?.split(' ').next());
    match kind {
        Some(kind) if LOCAL.contains(&kind) => None,
        Some(kind) => Some(kind.to_owned()),
        None => Some("fuse".to_owned()),
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn network_file_systems_are_known_and_local_ones_in_user_space_are_not_taken_for_them() {
        let mounts = "36 35 0:50 / /mnt/a rw,noatime shared:1 - fuse.sshfs me@host:/ rw\n\
                      37 35 0:51 / /mnt/b rw - fuseblk /dev/sdb1 rw\n\
                      38 35 0:52 / / rw - fuse.fuse-overlayfs overlay rw\n";
        assert_eq!(fuse_kind_in(mounts, "0:50").as_deref(), Some("fuse.sshfs"));
        assert_eq!(fuse_kind_in(mounts, "0:51"), None);
        assert_eq!(fuse_kind_in(mounts, "0:52"), None);
        assert_eq!(fuse_kind_in(mounts, "0:53").as_deref(), Some("fuse"));
        assert_eq!(network_kind(0x6969), Some("nfs"));
        assert_eq!(network_kind(0xef53), None, "ext4");
    }
}
