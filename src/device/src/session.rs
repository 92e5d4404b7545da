//! Measuring on a device from the start to the profile on this machine.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use inas_profiler::Profile;
use inas_profiler::profile::{BLOCKS_FILE, PROFILE_FILE};
use inas_profiler::records::{RECORDS_FILE, StreamLine};
use inas_space::Space;
use serde::{Deserialize, Serialize};

use crate::command::{Limits, Stream, quote};
use crate::elf::Elf;
use crate::facts::Facts;
use crate::transport::{Device, Pushed};
use crate::{Error, Result};

/// Name of the measuring program, here and there.
pub const PROFILER: &str = "inas-profiler";

/// Name of the file beside the profile that tells of the device and the connection.
pub const DEVICE_FILE: &str = "device.json";

/// Cuts in a row without one more block that are too many.
const MOST_CUTS: usize = 4;

/// Lines of a failed command that are kept for its error.
const LAST_WORDS: usize = 5;

/// What to measure, with what, and where the profile goes.
#[derive(Debug, Clone)]
pub struct Job {
    /// Space.
    pub space: Space,
    /// Options for `inas-profiler run` beside `--space`, `--record`, `--resume` and `--ort-lib`.
    pub options: Vec<String>,
    /// The measuring program for the device; else it is looked for.
    pub profiler: Option<PathBuf>,
    /// ONNX Runtime's library for the device.
    pub ort_lib: Option<PathBuf>,
    /// Folder for the profile; must be empty or not there.
    pub out: PathBuf,
    /// Go on with an unfinished profile on the device.
    pub resume: bool,
    /// Throw an unfinished profile on the device away.
    pub discard: bool,
    /// Leave the program on the device for the next time.
    pub keep: bool,
    /// Longest time without a block.
    pub silence: Duration,
    /// Longest wait for the device to come back.
    pub reconnect: Duration,
    /// Pause between two attempts to connect.
    pub pause: Duration,
}

/// Something happened on the way.
#[derive(Debug, Clone)]
pub enum Event {
    /// The device answered.
    Connected(Box<Facts>),
    /// A file is on the device.
    File {
        /// Its name.
        name: String,
        /// Whether it had to travel.
        pushed: Pushed,
    },
    /// A block was measured.
    Block(Box<StreamLine>),
    /// Words of the device for the user.
    Note(String),
    /// The connection was cut.
    Lost(String),
    /// It is back.
    Back {
        /// The device was started anew meanwhile.
        rebooted: bool,
    },
}

/// `device.json`: where a profile comes from and how the connection held.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Visit {
    /// The device, as in `--target`.
    pub target: String,
    /// What it told before the first block.
    pub before: Facts,
    /// What it told after the last one.
    pub after: Facts,
    /// How often the connection was cut.
    pub cuts: usize,
    /// How often the device was started anew.
    pub reboots: usize,
    /// Lines that were no record.
    pub garbage_lines: usize,
}

/// Measures a space on a device into the folder of `job`.
///
/// The program and the space file are pushed unless they are there; records are streamed. When the connection is cut,
/// or the device restarts, this waits for it (bounded), and goes on where it was: each block is on the device's disk
/// when it is told. In the end the profile is fetched and checked, and the device is left as it was.
pub fn profile_on(
    device: &mut dyn Device,
    job: &Job,
    observer: &mut dyn FnMut(&Event),
    cancel: &AtomicBool,
) -> Result<Profile> {
    if job.out.read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Error::NotEmpty { path: job.out.clone() });
    }
    let mut visit = Session {
        place: Place::new(device.folder(), job)?,
        job,
        observer,
        cancel,
        first: None,
        done: 0,
        cuts: 0,
        reboots: 0,
        garbage: 0,
    };
    let (mut barren, mut best) = (0, 0);
    loop {
        let reason = match visit.attempt(device) {
            // One that never answered is switched off or misnamed; waiting would only hide that.
            Err(Error::Lost { reason, .. }) if visit.first.is_some() => reason,
            other => return other,
        };
        (visit.observer)(&Event::Lost(reason.clone()));
        visit.cuts += 1;
        barren = if visit.done > best { 1 } else { barren + 1 };
        best = best.max(visit.done);
        if barren >= MOST_CUTS {
            return Err(Error::Stuck { device: device.name().to_owned(), times: barren, reason });
        }
        visit.wait(device)?;
    }
}

/// Names on the device.
#[derive(Debug)]
struct Place {
    folder: String,
    /// Folder of the records; tells apart what must not mix.
    record: String,
    space: String,
    pid: String,
}

impl Place {
    fn new(folder: &str, job: &Job) -> Result<Self> {
        let toml = job.space.to_toml()?;
        let text = format!("{toml}\n{:?}\n{:?}", job.options, job.ort_lib.as_ref().and_then(|p| p.file_name()));
        // FNV-1a: short, and the same in every version.
        let hash =
            text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
        let name = format!("{}-{:08x}", job.space.name, hash >> 32);
        Ok(Self {
            folder: folder.to_owned(),
            record: name.clone(),
            space: format!("{name}.toml"),
            pid: format!("{name}.pid"),
        })
    }

    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.folder)
    }

    /// Ends a measuring program that a cut connection left running, so that only one writes the records.
    fn end_leftover(&self) -> String {
        let pid = quote(&self.path(&self.pid));
        format!(
            "if [ -f {pid} ]; then p=$(cat {pid}); n=0\n\
             while kill -0 $p 2>/dev/null && tr '\\000' ' ' </proc/$p/cmdline | grep -q {PROFILER}; do\n\
             if [ $n -lt 10 ]; then kill $p; else kill -9 $p; fi; n=$((n + 1)); [ $n -gt 20 ] && break; sleep 1; done\n\
             rm -f {pid}; fi; true"
        )
    }
}

struct Session<'a> {
    place: Place,
    job: &'a Job,
    observer: &'a mut dyn FnMut(&Event),
    cancel: &'a AtomicBool,
    first: Option<Facts>,
    done: usize,
    cuts: usize,
    reboots: usize,
    garbage: usize,
}

impl Session<'_> {
    /// The whole way; each step leaves alone what an earlier attempt has done.
    fn attempt(&mut self, device: &mut dyn Device) -> Result<Profile> {
        if self.first.is_none() {
            device.connect()?;
        }
        let facts = device.facts()?;
        let first = self.first.is_none();
        if first {
            (self.observer)(&Event::Connected(Box::new(facts.clone())));
            self.first = Some(facts.clone());
        }
        self.push(device, &facts)?;
        device.shell(&self.place.end_leftover())?;
        let records = self.place.path(&format!("{}/{RECORDS_FILE}", self.place.record));
        let there = self.code(device, &format!("[ -e {} ]", quote(&records)))? == 0;
        let resume = there && (self.job.resume || !first);
        if there && !resume {
            if !self.job.discard {
                let folder = self.place.path(&self.place.record);
                return Err(Error::Unfinished { device: device.name().to_owned(), folder });
            }
            device.remove(&[&self.place.record])?;
        }
        self.measure(device, resume)?;
        let profile = self.fetch(device)?;
        self.clean(device);
        Ok(profile)
    }

    fn push(&mut self, device: &mut dyn Device, facts: &Facts) -> Result<()> {
        let program = self.job.profiler.clone().map_or_else(|| find_profiler(facts, self.job.ort_lib.is_some()), Ok)?;
        check_fit(device, &program, facts)?;
        let space = tempfile::NamedTempFile::new().map_err(Error::io("create", "temporary file"))?;
        std::fs::write(space.path(), self.job.space.to_toml()?).map_err(Error::io("write", space.path()))?;
        let mut files = vec![(program, PROFILER.to_owned()), (space.path().to_owned(), self.place.space.clone())];
        let libraries = self.job.ort_lib.as_deref().map(libraries).unwrap_or_default();
        files.extend(libraries.into_iter().map(|lib| (lib.clone(), file_name(&lib))));
        for (file, name) in files {
            let pushed = device.push(&file, &name)?;
            (self.observer)(&Event::File { name, pushed });
        }
        Ok(())
    }

    /// Exit code of a short command.
    fn code(&self, device: &mut dyn Device, command: &str) -> Result<i32> {
        device.exec(command, &Limits { cancel: self.cancel, ..Limits::short() }, &mut |_, _| ())
    }

    fn measure(&mut self, device: &mut dyn Device, resume: bool) -> Result<()> {
        let Place { folder, record, space, pid } = &self.place;
        let mut words: Vec<String> = ["run", "--space", space, "--record", record].map(str::to_owned).to_vec();
        words.extend(self.job.options.iter().cloned());
        words.extend(resume.then(|| "--resume".to_owned()));
        words.extend(self.job.ort_lib.iter().flat_map(|lib| ["--ort-lib".into(), format!("./{}", file_name(lib))]));
        let words: Vec<String> = words.iter().map(|w| quote(w)).collect();
        // The number of the shell becomes that of the program.
        let command =
            format!("cd {} && echo $$ >{} && exec ./{PROFILER} {}", quote(folder), quote(pid), words.join(" "));
        let command = format!("sh -c {}", quote(&command));
        let mut said = VecDeque::new();
        let (done, garbage, observer) = (&mut self.done, &mut self.garbage, &mut self.observer);
        let limits = Limits { silence: self.job.silence, cancel: self.cancel };
        let code = device.exec(&command, &limits, &mut |stream, line| {
            let record = serde_json::from_str::<StreamLine>(line).ok().filter(|_| stream == Stream::Out);
            if let Some(record) = record {
                *done = record.done.max(*done);
                return observer(&Event::Block(Box::new(record)));
            }
            *garbage += usize::from(stream == Stream::Out);
            if line.starts_with("warning:") {
                observer(&Event::Note(line.to_owned()));
            }
            said.push_back(line.to_owned());
            if said.len() > LAST_WORDS {
                said.pop_front();
            }
        });
        if let Err(Error::Interrupted { .. }) = &code {
            // The measuring program goes on when its reader goes away.
            let _ = device.shell(&self.place.end_leftover());
        }
        let device_name = device.name().to_owned();
        match code? {
            0 => Ok(()),
            126 | 127 => Err(Error::Unfit {
                device: device_name,
                what: format!("the measuring program does not start: {}", Vec::from(said).join("; ")),
                remedy: "see `inas doctor`".into(),
            }),
            132 => Err(Error::Unfit {
                device: device_name,
                what: "the measuring program met an instruction that the processor lacks".into(),
                remedy: "build it for this processor (scripts/build-device)".into(),
            }),
            // Killed from outside, such as by the low-memory killer or a shutdown that has begun.
            code @ 129.. => Err(Error::Lost {
                device: device_name,
                reason: format!("the measuring program was ended (exit code {code})"),
            }),
            code => {
                let said = Vec::from(said).join("; ");
                Err(Error::Command {
                    device: device_name,
                    command: format!("{PROFILER} run"),
                    code,
                    said: format!(": {said}"),
                })
            }
        }
    }

    fn fetch(&mut self, device: &mut dyn Device) -> Result<Profile> {
        let out = &self.job.out;
        let parent = out.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
        let folder =
            tempfile::Builder::new().prefix(".profile-").tempdir_in(parent).map_err(Error::io("create in", parent))?;
        for name in [PROFILE_FILE, BLOCKS_FILE, RECORDS_FILE] {
            device.fetch(&self.place.path(&format!("{}/{name}", self.place.record)), &folder.path().join(name))?;
        }
        let profile = Profile::read(folder.path())?;
        let visit = Visit {
            target: device.name().to_owned(),
            before: self.first.clone().unwrap_or_default(),
            after: device.facts()?,
            cuts: self.cuts,
            reboots: self.reboots,
            garbage_lines: self.garbage,
        };
        let json = serde_json::to_vec_pretty(&visit).unwrap_or_default();
        let path = folder.path().join(DEVICE_FILE);
        std::fs::write(&path, json).map_err(Error::io("write", &path))?;
        if out.exists() {
            std::fs::remove_dir(out).map_err(Error::io("replace", out))?;
        }
        let made = folder.keep();
        std::fs::rename(&made, out).map_err(Error::io("rename to", out))?;
        open_to_others(out)?;
        Ok(profile)
    }

    /// Leaves the device as it was. A failure is told but the profile is here.
    fn clean(&mut self, device: &mut dyn Device) {
        let Place { record, space, pid, .. } = &self.place;
        let mut names = vec![record.clone(), space.clone(), pid.clone()];
        if !self.job.keep {
            names.push(PROFILER.to_owned());
            let libraries = self.job.ort_lib.as_deref().map(libraries).unwrap_or_default();
            names.extend(libraries.iter().map(|lib| file_name(lib)));
        }
        let removed = device.remove(&names.iter().map(String::as_str).collect::<Vec<_>>());
        if let Err(error) = removed {
            (self.observer)(&Event::Note(format!("warning: files are left on the device: {error}")));
        }
    }

    /// Waits for the device to come back, at most as long as the job says.
    fn wait(&mut self, device: &mut dyn Device) -> Result<()> {
        let start = Instant::now();
        loop {
            if self.cancel.load(Ordering::Relaxed) {
                return Err(Error::Interrupted { device: device.name().to_owned() });
            }
            let reason = match device.connect().and_then(|()| device.facts()) {
                Ok(facts) => {
                    let rebooted = self.first.as_ref().is_some_and(|f| f.boot.is_some() && f.boot != facts.boot);
                    self.reboots += usize::from(rebooted);
                    if let Some(first) = self.first.as_mut().filter(|_| rebooted) {
                        first.boot = facts.boot;
                    }
                    (self.observer)(&Event::Back { rebooted });
                    return Ok(());
                }
                Err(Error::Lost { reason, .. } | Error::Command { said: reason, .. }) => reason,
                Err(other) => return Err(other),
            };
            if start.elapsed() >= self.job.reconnect {
                return Err(Error::Gone {
                    device: device.name().to_owned(),
                    waited_s: self.job.reconnect.as_secs(),
                    reason,
                });
            }
            std::thread::sleep(self.job.pause);
        }
    }
}

/// A folder made as a temporary one is the user's own only.
#[cfg(unix)]
fn open_to_others(folder: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).map_err(Error::io("open", folder))
}

#[cfg(not(unix))]
fn open_to_others(_folder: &Path) -> Result<()> {
    Ok(())
}

pub(crate) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// ONNX Runtime's library and, beside it, those of its execution providers, which it loads from its own folder.
pub(crate) fn libraries(library: &Path) -> Vec<PathBuf> {
    let folder = library.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path());
    let mut found: Vec<_> = entries.filter(|p| file_name(p).starts_with("libonnxruntime_providers_")).collect();
    found.sort();
    found.insert(0, library.to_owned());
    found
}

/// The measuring program for a device: beside this program for this machine's instruction set, else one that
/// `scripts/build-device` made.
pub fn find_profiler(facts: &Facts, with_ort: bool) -> Result<PathBuf> {
    let machine = facts.machine.clone().unwrap_or_default();
    let exe = std::env::current_exe().unwrap_or_default();
    let beside = exe.parent().unwrap_or(Path::new(".")).to_owned();
    let mut looked = vec![beside.join(format!("{PROFILER}-{machine}"))];
    if machine == std::env::consts::ARCH {
        looked.push(beside.join(PROFILER));
    }
    if machine == "aarch64" {
        let built = beside.parent().unwrap_or(Path::new(".")).join("device");
        // Static first; it cannot load a library, though.
        let names: &[&str] = match (facts.android.is_some(), with_ort) {
            (true, _) => &["android"],
            (false, true) => &["jetson"],
            (false, false) => &["musl", "jetson"],
        };
        looked.extend(names.iter().map(|n| built.join(n).join(PROFILER)));
    }
    let found = looked.iter().find(|p| p.is_file()).cloned();
    let places = looked.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ");
    found.ok_or(Error::NoProfiler { arch: machine, looked: places })
}

/// Refuses a program of another instruction set, whose own message would be "not found" or "not executable".
pub(crate) fn check_fit(device: &mut dyn Device, program: &Path, facts: &Facts) -> Result<()> {
    let unfit =
        |what: String, remedy: &str| Error::Unfit { device: device.name().to_owned(), what, remedy: remedy.to_owned() };
    let Some(elf) = Elf::read(program)? else { return Ok(()) };
    let differing = elf.machine.zip(facts.machine.as_deref()).filter(|(program, device)| program != device);
    if let Some((program_for, machine)) = differing {
        let what = format!("{} is for {program_for}, the device is {machine}", program.display());
        return Err(unfit(what, "build one with `scripts/build-device` and name it with --profiler-bin"));
    }
    if let Some(loader) = elf.loader {
        let there = device.exec(&format!("[ -e {} ]", quote(&loader)), &Limits::short(), &mut |_, _| ())? == 0;
        if !there {
            let what = format!("{} needs {loader}, which the device does not have", program.display());
            return Err(Error::Unfit {
                device: device.name().to_owned(),
                what,
                remedy: "use the static one: `scripts/build-device musl`".into(),
            });
        }
    }
    Ok(())
}
