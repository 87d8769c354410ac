//! What processes use, as /proc tells it: of any process and its children.

use std::{
    fs, io,
    path::PathBuf,
    sync::mpsc::{RecvTimeoutError, Sender, channel},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::unistd::{SysconfVar, sysconf};

/// Between two looks at resident memory.
const SAMPLE_EVERY: Duration = Duration::from_millis(100);
/// Looks at memory from one look at which processes there are to the next.
const LOOKS_A_TREE: u32 = 10;
/// Children of children of children: deeper than any program here.
const DEPTH_MAX: usize = 4;

/// What a process uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Resident bytes.
    pub rss_bytes: u64,
    /// The most that were, so far.
    pub peak_bytes: u64,
    /// Processor time so far of all its threads, those that ended too, and of children it waited for; in steps of 10 ms.
    pub cpu: Duration,
}

impl Usage {
    /// Of one process.
    ///
    /// # Errors
    /// When it has ended.
    pub fn of(pid: u32) -> io::Result<Usage> {
        let proc = PathBuf::from(format!("/proc/{pid}"));
        let status = fs::read_to_string(proc.join("status"))?;
        let bytes = |name: &str| {
            let text = status.lines().find_map(|line| line.strip_prefix(name));
            let kib = text.and_then(|text| text.trim().strip_suffix(" kB")?.parse::<u64>().ok());
            kib.map(|kib| kib << 10).ok_or_else(|| io::Error::other(format!("process {pid} has no {name}")))
        };
        Ok(Usage { rss_bytes: bytes("VmRSS:")?, peak_bytes: bytes("VmHWM:")?, cpu: Stat::of(pid)?.cpu()? })
    }

    /// Of a process and all below it, in sum. Of those that end meanwhile, nothing.
    ///
    /// # Errors
    /// When the process itself has ended.
    pub fn of_tree(pid: u32) -> io::Result<Usage> {
        let below = children(pid)?.into_iter().filter_map(|child| Usage::of(child).ok());
        Ok(below.fold(Usage::of(pid)?, |sum, child| Usage {
            rss_bytes: sum.rss_bytes + child.rss_bytes,
            peak_bytes: sum.peak_bytes + child.peak_bytes,
            cpu: sum.cpu + child.cpu,
        }))
    }
}

/// `/proc/PID/stat` after the name in parentheses. Source: proc_pid_stat(5).
struct Stat(Vec<u64>);

impl Stat {
    fn of(pid: u32) -> io::Result<Stat> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The name may hold anything, parentheses as well. The state is a letter, and tpgid may be -1.
        let fields = text.rsplit_once(')').map_or("", |(_, fields)| fields);
        Ok(Stat(fields.split_whitespace().map(|field| field.parse().unwrap_or(0)).collect()))
    }

    /// A field by its number in the manual page, which counts from 1.
    fn field(&self, number: usize) -> u64 {
        self.0.get(number - 3).copied().unwrap_or(0)
    }

    fn parent(&self) -> u64 {
        self.field(4)
    }

    /// utime, stime, cutime, cstime.
    fn cpu(&self) -> io::Result<Duration> {
        let ticks: u64 = (14..=17).map(|number| self.field(number)).sum();
        let per_s = sysconf(SysconfVar::CLK_TCK)?.and_then(|ticks| u64::try_from(ticks).ok()).unwrap_or(100);
        Ok(Duration::from_micros(ticks * 1_000_000 / per_s.max(1)))
    }
}

/// The processes below one, at any depth.
///
/// # Errors
/// Without /proc.
pub fn children(pid: u32) -> io::Result<Vec<u32>> {
    let all: Vec<(u32, u64)> = fs::read_dir("/proc")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, Stat::of(pid).ok()?.parent())))
        .collect();
    let (mut found, mut level) = (Vec::new(), vec![pid]);
    for _ in 0..DEPTH_MAX {
        let is_below = |parent: u64| level.iter().any(|&above| u64::from(above) == parent);
        level = all.iter().filter(|(_, parent)| is_below(*parent)).map(|(pid, _)| *pid).collect();
        found.extend(&level);
    }
    Ok(found)
}

/// What processes used in a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Used {
    /// The most bytes that were resident at once, looked at ten times a second; of the processes and those below them.
    pub rss_max_bytes: u64,
    /// Processor time.
    pub cpu: Duration,
    /// How long it was.
    pub time: Duration,
}

impl Used {
    /// Processor time in percent of one core.
    pub fn cpu_percent(&self) -> f64 {
        100.0 * self.cpu.as_secs_f64() / self.time.as_secs_f64().max(1e-9)
    }

    /// Resident memory in MiB.
    pub fn rss_max_mib(&self) -> f64 {
        self.rss_max_bytes as f64 / f64::from(1 << 20)
    }
}

/// Looks at groups of processes until it is told to stop; of each group, what it used in sum.
pub struct Sampler {
    stop: Sender<()>,
    thread: JoinHandle<Vec<u64>>,
    roots: Vec<Vec<u32>>,
    groups: Vec<Vec<u32>>,
    cpu_before: Vec<Duration>,
    start: Instant,
}

impl Sampler {
    /// Of these groups, and of the processes below them.
    ///
    /// # Errors
    /// Without /proc.
    pub fn start(groups: &[&[u32]]) -> io::Result<Sampler> {
        let roots: Vec<Vec<u32>> = groups.iter().map(|pids| pids.to_vec()).collect();
        let whole = trees(&roots)?;
        let (stop, stopped) = channel();
        let (mut sampled, tops) = (whole.clone(), roots.clone());
        let thread = thread::Builder::new().name("sampler".into()).spawn(move || {
            let mut most = vec![0; sampled.len()];
            for nth in 1_u32.. {
                // Servers start a process a connection while they are looked at.
                if nth.is_multiple_of(LOOKS_A_TREE) {
                    sampled = trees(&tops).unwrap_or(sampled);
                }
                for (most, pids) in most.iter_mut().zip(&sampled) {
                    *most = (*most).max(sum(pids).0);
                }
                if stopped.recv_timeout(SAMPLE_EVERY) != Err(RecvTimeoutError::Timeout) {
                    break;
                }
            }
            most
        })?;
        let cpu_before = whole.iter().map(|pids| sum(pids).1).collect();
        // clock: measures
        Ok(Sampler { stop, thread, roots, groups: whole, cpu_before, start: Instant::now() })
    }

    /// What each group used since the start, with those that came below it meanwhile. Those that ended count where whoever
    /// is above them waited for them.
    pub fn stop(self) -> Vec<Used> {
        let time = self.start.elapsed();
        let now = trees(&self.roots).unwrap_or(self.groups);
        let cpu_after: Vec<Duration> = now.iter().map(|pids| sum(pids).1).collect();
        // It has ended only by a panic of its own, and `join` tells of that.
        let _ = self.stop.send(());
        let most = self.thread.join().expect("the sampler does not panic");
        let cpu = cpu_after.iter().zip(&self.cpu_before).map(|(after, before)| after.saturating_sub(*before));
        most.into_iter().zip(cpu).map(|(rss_max_bytes, cpu)| Used { rss_max_bytes, cpu, time }).collect()
    }
}

/// Each group with all that is below it.
fn trees(roots: &[Vec<u32>]) -> io::Result<Vec<Vec<u32>>> {
    let tree = |pids: &Vec<u32>| {
        let mut all = pids.clone();
        for &pid in pids {
            all.extend(children(pid)?);
        }
        Ok::<_, io::Error>(all)
    };
    roots.iter().map(tree).collect()
}

/// Resident bytes and processor time of these.
fn sum(pids: &[u32]) -> (u64, Duration) {
    let usages = pids.iter().filter_map(|&pid| Usage::of(pid).ok());
    usages.fold((0, Duration::ZERO), |(rss, cpu), usage| (rss + usage.rss_bytes, cpu + usage.cpu))
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read,
        process::{Command, Stdio, id},
    };

    use super::*;

    #[test]
    fn a_process_has_memory_and_a_child_is_below_it() {
        let own = Usage::of(id()).unwrap();
        assert!(own.rss_bytes > 0 && own.peak_bytes >= own.rss_bytes);
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        assert!(children(id()).unwrap().contains(&child.id()));
        assert!(Usage::of_tree(id()).unwrap().rss_bytes > Usage::of(child.id()).unwrap().rss_bytes);
        drop(child.stdin.take());
        child.wait().unwrap();
    }

    #[test]
    fn a_sampler_counts_the_time_of_a_busy_process_and_not_of_an_idle_one() {
        // A loop that ends with its standard output, which nobody reads beyond the first bytes.
        let busy = Command::new("yes").stdout(Stdio::piped()).spawn();
        let mut busy = busy.unwrap();
        let mut idle = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let sampler = Sampler::start(&[&[busy.id()], &[idle.id()]]).unwrap();
        let mut out = busy.stdout.take().unwrap();
        let mut buffer = vec![0; 1 << 16];
        while Usage::of(busy.id()).unwrap().cpu < Duration::from_millis(40) {
            out.read_exact(&mut buffer).unwrap();
        }
        let used = sampler.stop();
        assert!(used[0].cpu >= Duration::from_millis(10), "{used:?}");
        assert!(used[1].cpu < used[0].cpu && used[1].rss_max_bytes > 0, "{used:?}");
        drop((out, idle.stdin.take()));
        idle.wait().unwrap();
        busy.wait().unwrap();
    }
}
