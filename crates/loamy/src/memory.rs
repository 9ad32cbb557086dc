//! How much memory this process may have: by its own limits, those of its control groups, and what the machine has.

/// The most that this process can ever hold, swap included, in bytes; None where nothing tells.
///
/// [`Client::run`](crate::Client::run) keeps every outcome until the last one is there. What cannot fit into this is for
/// [`Client::stream`](crate::Client::stream).
pub fn memory_limit() -> Option<u64> {
    #[cfg(target_os = "linux")]
    return linux::limit();
    // Elsewhere limits stand that nobody keeps: a list that would have fitted must not be turned away for one of them.
    #[cfg(not(target_os = "linux"))]
    None
}

#[cfg(target_os = "linux")]
mod linux {
    use std::fs;
    use std::path::{Component, Path, PathBuf};

    use rustix::process::{Resource, getrlimit};

    pub(super) fn limit() -> Option<u64> {
        let own = [Resource::As, Resource::Data].map(|limit| getrlimit(limit).current);
        let system = System { root: PathBuf::from("/") };
        own.into_iter().flatten().chain(system.limit()).min()
    }

    /// What the kernel tells in files, below a root that tests make.
    pub(super) struct System {
        pub(super) root: PathBuf,
    }

    /// The two ways in which control groups tell their limits.
    #[derive(Clone, Copy, PartialEq, Eq)]
    enum Version {
        One,
        Two,
    }

    impl System {
        pub(super) fn limit(&self) -> Option<u64> {
            let swap = self.meminfo("SwapTotal:").unwrap_or(0);
            let machine = self.meminfo("MemTotal:").map(|memory| memory.saturating_add(swap));
            [Version::One, Version::Two]
                .into_iter()
                .flat_map(|version| self.groups(version).into_iter().map(move |group| (version, group)))
                .filter_map(|(version, group)| self.group_limit(version, &group, swap))
                .chain(machine)
                .min()
        }

        /// What a group lets its processes have. Pages that are swapped out do not count for its memory.
        fn group_limit(&self, version: Version, group: &Path, swap: u64) -> Option<u64> {
            let number = |name: &str| self.read(group.join(name))?.trim().parse::<u64>().ok();
            match version {
                Version::One => {
                    let memory = number("memory.limit_in_bytes").map(|memory| memory.saturating_add(swap));
                    memory.into_iter().chain(number("memory.memsw.limit_in_bytes")).min()
                }
                Version::Two => {
                    let swapped = number("memory.swap.max").unwrap_or(swap).min(swap);
                    Some(number("memory.max")?.saturating_add(swapped))
                }
            }
        }

        /// The directories of the process's group and of those above it, as far as they are to be seen.
        fn groups(&self, version: Version) -> Vec<PathBuf> {
            let Some((mounted, at)) = self.mount(version) else {
                return Vec::new();
            };
            let own = self.own_group(version).unwrap_or_default();
            // Of what is not below what is mounted, nothing but the mount itself is to be seen.
            let below = own.strip_prefix(&mounted).unwrap_or(Path::new(""));
            let is_plain = below.components().all(|part| matches!(part, Component::Normal(_)));
            let below = if is_plain { below } else { Path::new("") };
            let own = at.join(below);
            let groups = below.ancestors().map(|below| at.join(below));
            // Those above bind only where the hierarchy is used, which a kernel before 5.11 may leave undone.
            let binds = |group: &PathBuf| {
                let hierarchy = || self.read(group.join("memory.use_hierarchy"));
                version == Version::Two || *group == own || hierarchy().is_some_and(|said| said.trim() == "1")
            };
            groups.filter(binds).collect()
        }

        /// Which group is mounted, and where (proc_pid_mountinfo(5)).
        fn mount(&self, version: Version) -> Option<(PathBuf, PathBuf)> {
            self.read("/proc/self/mountinfo")?.lines().find_map(|line| {
                let (place, kind) = line.split_once(" - ")?;
                let mut kind = kind.split(' ');
                let is_it = match version {
                    Version::One => {
                        kind.next() == Some("cgroup")
                            && kind
                                .nth(1)
                                .is_some_and(|options| options.split(',').any(|own| own == "memory"))
                    }
                    Version::Two => kind.next() == Some("cgroup2"),
                };
                let mut place = place.split(' ').skip(3);
                is_it.then(|| Some((place.next()?.into(), place.next()?.into())))?
            })
        }

        /// The group of the process (cgroups(7)).
        fn own_group(&self, version: Version) -> Option<PathBuf> {
            self.read("/proc/self/cgroup")?.lines().find_map(|line| {
                let mut parts = line.splitn(3, ':').skip(1);
                let controllers = parts.next()?;
                let is_it = match version {
                    Version::One => controllers.split(',').any(|own| own == "memory"),
                    Version::Two => controllers.is_empty(),
                };
                is_it.then(|| parts.next().map(PathBuf::from))?
            })
        }

        fn meminfo(&self, name: &str) -> Option<u64> {
            let text = self.read("/proc/meminfo")?;
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
        }

        fn read(&self, path: impl AsRef<Path>) -> Option<String> {
            let path = path.as_ref();
            fs::read_to_string(self.root.join(path.strip_prefix("/").unwrap_or(path))).ok()
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::fs;

    use super::linux::System;

    const MIB: u64 = 1 << 20;
    const ONE: &str = "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n";
    const TWO: &str = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";

    /// What a system says that has these files, of 1,000 MiB of memory and so much swap.
    fn limit(swap: u64, files: &[(&str, &str)]) -> Option<u64> {
        let folder = tempfile::tempdir().unwrap();
        let meminfo = format!("MemTotal:  {} kB\nMemFree: 1 kB\nSwapTotal:  {} kB\n", 1000 << 10, swap << 10);
        for (path, text) in files.iter().chain([&("proc/meminfo", &*meminfo)]) {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let limit = System { root: folder.path().to_owned() }.limit()?;
        assert_eq!(limit % MIB, 0);
        Some(limit / MIB)
    }

    #[test]
    fn h3_without_groups_the_machine_with_its_swap_is_the_limit() {
        assert_eq!(limit(0, &[]), Some(1000));
        assert_eq!(limit(24, &[]), Some(1024));
    }

    #[test]
    fn h3_the_least_of_a_group_and_those_above_it_is_the_limit() {
        let both = |own: &str, above: &str| {
            limit(
                0,
                &[
                    ("proc/self/mountinfo", TWO),
                    ("proc/self/cgroup", "0::/jobs/one\n"),
                    ("sys/fs/cgroup/jobs/memory.max", above),
                    ("sys/fs/cgroup/jobs/one/memory.max", own),
                ],
            )
        };
        assert_eq!(both("268435456\n", "max\n"), Some(256));
        assert_eq!(both("max\n", "134217728\n"), Some(128));
        assert_eq!(both("max\n", "max\n"), Some(1000));
        assert_eq!(both("9223372036854771712\n", "max\n"), Some(1000));
    }

    #[test]
    fn h3_what_a_group_may_swap_counts_for_it_as_far_as_there_is_swap() {
        let with = |swap: u64, may: &str| {
            limit(
                swap,
                &[
                    ("proc/self/mountinfo", TWO),
                    ("proc/self/cgroup", "0::/\n"),
                    ("sys/fs/cgroup/memory.max", "268435456\n"),
                    ("sys/fs/cgroup/memory.swap.max", may),
                ],
            )
        };
        assert_eq!(with(0, "max\n"), Some(256));
        assert_eq!(with(64, "max\n"), Some(256 + 64));
        assert_eq!(with(64, "33554432\n"), Some(256 + 32));
        assert_eq!(with(64, "0\n"), Some(256));
    }

    #[test]
    fn h3_control_groups_of_the_first_version_are_read_too() {
        let own = "9:name=systemd:/\n4:cpu,memory:/jobs/one\n0::/\n";
        let files = [
            ("proc/self/mountinfo", ONE),
            ("proc/self/cgroup", own),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("sys/fs/cgroup/memory/jobs/one/memory.limit_in_bytes", "268435456\n"),
        ];
        assert_eq!(limit(0, &files), Some(256));
        assert_eq!(limit(64, &files), Some(256 + 64));
        for (both, least) in [("301989888\n", 288), ("9223372036854771712\n", 256 + 64)] {
            let swap = ("sys/fs/cgroup/memory/jobs/one/memory.memsw.limit_in_bytes", both);
            assert_eq!(limit(64, &[&files[..], &[swap]].concat()), Some(least));
        }
        let above = ("sys/fs/cgroup/memory/jobs/memory.limit_in_bytes", "134217728\n");
        assert_eq!(limit(0, &[&files[..], &[above]].concat()), Some(256));
        let used = ("sys/fs/cgroup/memory/jobs/memory.use_hierarchy", "1\n");
        assert_eq!(limit(0, &[&files[..], &[above, used]].concat()), Some(128));
    }

    #[test]
    fn h3_in_a_container_the_mount_is_what_is_to_be_seen_of_the_group() {
        // The group's name is the host's, and what is mounted is that group.
        let mounted = TWO.replace(" / /sys", " /docker/abc /sys");
        // Or the group lies outside of what the namespace shows.
        for own in ["0::/docker/abc\n", "0::/other\n", "0::/../..\n"] {
            let files = [
                ("proc/self/mountinfo", &*mounted),
                ("proc/self/cgroup", own),
                ("sys/fs/cgroup/memory.max", "268435456\n"),
            ];
            assert_eq!(limit(0, &files), Some(256), "{own}");
        }
    }

    #[test]
    fn h3_of_this_process_a_limit_is_known() {
        let limit = super::memory_limit().unwrap();
        assert!(limit > 16 * MIB, "{limit}");
    }
}
