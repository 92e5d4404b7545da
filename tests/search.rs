//! `inas search` as a program: killed and resumed, shared out by Slurm's script and Kubernetes' job and merged, on
//! impossible wishes, from a partial space.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// A supernet of two training steps: enough to search.
static SUPERNET: LazyLock<(tempfile::TempDir, PathBuf)> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("train");
    let trained = inas()
        .args(["--quiet", "train", "--run", "nano", "--data", "data/mini/train.lst", "--steps", "2", "--batch", "4"])
        .args(["--set", "train.warmup_steps=1", "-o"])
        .arg(&out)
        .output()
        .unwrap();
    assert!(trained.status.success(), "{}", String::from_utf8_lossy(&trained.stderr));
    let file = out.join("supernet.safetensors");
    (dir, file)
});

fn inas() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_inas"));
    command.current_dir(root());
    command
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Settings of a small search.
const SMALL: [&str; 10] =
    ["--calibration", "8", "--population", "10", "--keep", "4", "--groups", "4", "--iterations", "2"];

/// A small search into a folder.
fn search(out: &Path, more: &[&str]) -> Command {
    let mut command = inas();
    command.args(["search", "--profile", "profiles/nano-128-tract1", "--train-data", "data/mini/train.lst"]);
    command.args(["--val-data", "data/mini/val.lst", "--supernet"]).arg(&SUPERNET.1).arg("-o").arg(out);
    command.args(SMALL).args(more);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn finish(mut command: Command) -> String {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    said
}

fn lines(folder: &Path) -> usize {
    let files = std::fs::read_dir(folder).into_iter().flatten().map(|e| e.unwrap().path());
    files.map(|f| std::fs::read_to_string(f).unwrap().matches('\n').count()).sum()
}

const RESULTS: [&str; 5] = ["evaluated.jsonl", "front.csv", "front.json", "generations.csv", "lineage.json"];

fn assert_same(a: &Path, b: &Path) {
    for name in RESULTS {
        assert_eq!(std::fs::read(a.join(name)).unwrap(), std::fs::read(b.join(name)).unwrap(), "{name}");
    }
}

#[test]
fn killed_searches_resume_to_the_identical_front_and_shards_merge_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole");
    finish(search(&whole, &["--jobs", "2"]));
    let evaluations = lines(&whole.join("cache"));
    assert!(evaluations > 15, "{evaluations}");

    // Killed twice, at once and late, without a chance to tidy up.
    let killed = dir.path().join("killed");
    for (at, options) in [(3, &[][..]), (evaluations - 4, &["--resume"][..])] {
        let mut child = search(&killed, &[options, &["--jobs", "1"]].concat()).spawn().unwrap();
        let start = Instant::now();
        while lines(&killed.join("cache")) < at {
            assert!(start.elapsed() < Duration::from_mins(2) && child.try_wait().unwrap().is_none(), "too quick");
            std::thread::sleep(Duration::from_millis(5));
        }
        child.kill().unwrap();
        assert!(!child.wait().unwrap().success());
        assert!(!killed.join("front.json").exists());
    }
    finish(search(&killed, &["--resume"]));
    assert_same(&whole, &killed);
    assert_eq!(lines(&killed.join("cache")), evaluations, "nothing is evaluated twice");

    // A changed image is another search, even under the same name.
    let mut refused = inas();
    let copy = dir.path().join("data");
    copy_set(&copy, |name, bytes| if name.starts_with("masks") { darker(&bytes) } else { bytes });
    refused.args(["search", "--profile", "profiles/nano-128-tract1", "--resume", "--supernet"]).arg(&SUPERNET.1);
    refused.args(SMALL);
    refused.arg("--train-data").arg(copy.join("train.lst")).arg("--val-data").arg(copy.join("val.lst"));
    let said = refused.arg("-o").arg(&killed).output().unwrap();
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("of another search") && said.contains("objective"), "{said}");

    // Shared out over processes as clusters start them.
    let clusters: [(&str, Start); 2] = [("slurm", slurm_task), ("kubernetes", kubernetes_pod)];
    for (name, start) in clusters {
        let folder = dir.path().join(name);
        let shards = ["0", "1"].map(|part| start(&folder, part).stderr(Stdio::piped()).spawn().unwrap());
        for shard in shards {
            let output = shard.wait_with_output().unwrap();
            assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        }
        let shared = folder.join("search");
        assert_eq!(lines(&shared.join("cache")), evaluations, "{name}: no shard does another's work");
        let mut merge = inas();
        merge.args(["search", "merge"]).arg(&shared);
        finish(merge);
        assert_same(&whole, &shared);
    }

    // Without its partner a shard does its part and says what is missing.
    let alone = dir.path().join("alone");
    let output = search(&alone, &["--shard", "1/2", "--shard-wait", "0"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("wait for other shards"), "{said}");
}

/// How a cluster starts a shard: the folder of the search's folder, and the shard's index.
type Start = fn(&Path, &str) -> Command;

/// A shell with the program in its path, as on a cluster's node.
fn shell(name: &str) -> Command {
    let program = Path::new(env!("CARGO_BIN_EXE_inas")).parent().unwrap().to_owned();
    let path = std::env::var_os("PATH").unwrap();
    let mut shell = Command::new(name);
    shell.current_dir(root());
    shell.env("PATH", std::env::join_paths([program].into_iter().chain(std::env::split_paths(&path))).unwrap());
    shell
}

/// The script of the Slurm array with what Slurm sets for one of two tasks.
fn slurm_task(folder: &Path, task: &str) -> Command {
    let mut bash = shell("bash");
    bash.arg("scripts/cluster/slurm-array.sh").args(SMALL);
    bash.envs([("SLURM_ARRAY_TASK_ID", task), ("SLURM_ARRAY_TASK_COUNT", "2"), ("SLURM_CPUS_PER_TASK", "1")]);
    bash.envs([("PROFILE", "profiles/nano-128-tract1"), ("TRAIN", "data/mini/train.lst")]);
    bash.env("VAL", "data/mini/val.lst").env("SUPERNET", &SUPERNET.1).env("OUT", folder.join("search"));
    bash
}

/// The command of the indexed job with what Kubernetes sets for one of two pods; its volume is a folder.
fn kubernetes_pod(volume: &Path, index: &str) -> Command {
    if !volume.exists() {
        std::fs::create_dir(volume).unwrap();
        let link = |from: &Path, name: &str| std::os::unix::fs::symlink(from, volume.join(name)).unwrap();
        for name in ["train.lst", "val.lst", "images", "masks"] {
            link(&root().join("data/mini").join(name), name);
        }
        link(&root().join("profiles/nano-128-tract1"), "profile");
        link(&SUPERNET.1, "supernet.safetensors");
    }
    let job = std::fs::read_to_string(root().join("scripts/cluster/kubernetes-job.yaml")).unwrap();
    assert!(job.contains(r#"command: ["sh", "-c"]"#), "{job}");
    // A folded block: its lines are one.
    let folded = job.lines().skip_while(|l| !l.ends_with(">-")).skip(1).take_while(|l| !l.contains(':'));
    let line = folded.map(str::trim).collect::<Vec<_>>().join(" ");
    let line = line.replace("/data/", &format!("{}/", volume.display()));
    let line = line.replace("INDEX/8", "INDEX/2").replace("--jobs 8", "--jobs 1");
    let mut sh = shell("sh");
    sh.arg("-c").arg(format!("{line} {}", SMALL.join(" "))).env("JOB_COMPLETION_INDEX", index);
    sh
}

/// The validation images of the mini set in another folder, changed.
fn copy_set(to: &Path, change: impl Fn(&str, Vec<u8>) -> Vec<u8>) {
    let from = root().join("data/mini");
    let mut open = vec![PathBuf::new()];
    while let Some(folder) = open.pop() {
        std::fs::create_dir_all(to.join(&folder)).unwrap();
        for entry in std::fs::read_dir(from.join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let relative = folder.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                open.push(relative);
            } else {
                let bytes = std::fs::read(entry.path()).unwrap();
                std::fs::write(to.join(&relative), change(&relative.to_string_lossy(), bytes)).unwrap();
            }
        }
    }
}

fn darker(png: &[u8]) -> Vec<u8> {
    let mut image = image::load_from_memory(png).unwrap().to_luma8();
    for pixel in image.pixels_mut() {
        pixel.0[0] = pixel.0[0].saturating_sub(1);
    }
    let mut out = std::io::Cursor::new(Vec::new());
    image.write_to(&mut out, image::ImageFormat::Png).unwrap();
    out.into_inner()
}

#[test]
fn impossible_wishes_fail_at_once_and_tell_what_is_possible() {
    let dir = tempfile::tempdir().unwrap();
    // No image list is there to read: the latency is refused first.
    let mut command = inas();
    command.args(["search", "--supernet", "none", "--train-data", "none", "--val-data", "none"]);
    command.args(["--profile", "profiles/nano-128-tract1", "--max-latency", "0.01", "-o"]).arg(dir.path());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("the space reaches"), "{said}");
    let output = search(&dir.path().join("f"), &["--min-score", "0.999"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("they reach"), "{said}");
}

#[test]
fn several_profiles_and_a_partial_space() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("two");
    let said = finish(search(
        &out,
        &["--profile", "profiles/nano-128-ort1", "--within", "spaces/nano-backbone.toml", "--strategy", "nsga2"],
    ));
    assert!(said.contains("Best single network over all devices"), "{said}");
    assert!(std::fs::read_to_string(out.join("report.html")).unwrap().contains("script-src 'sha256-"));
    for name in ["front-nano-128-tract1.csv", "front-nano-128-ort1.json", "devices.csv"] {
        assert!(out.join(name).exists(), "{name}");
    }
    let front = std::fs::read_to_string(out.join("front.json")).unwrap();
    let front: serde_json::Value = serde_json::from_str(&front).unwrap();
    for network in front.as_array().unwrap() {
        for level in network["arch"]["transport"].as_array().unwrap() {
            assert_eq!(level["sources"].as_array().unwrap().len(), 5);
        }
    }
}

#[test]
fn the_front_is_exported_measured_through_the_device_layer_and_ranked_again() {
    let profiler = Path::new(env!("CARGO_BIN_EXE_inas")).with_file_name("inas-profiler");
    assert!(profiler.exists(), "no {}: cargo build --release --workspace", profiler.display());
    let dir = tempfile::tempdir().unwrap();
    let (out, place) = (dir.path().join("s"), dir.path().join("device"));
    let place = place.to_str().unwrap();
    finish(search(&out, &["--measure", "2", "--rounds", "2", "--remote-folder", place]));
    let table = std::fs::read_to_string(out.join("measured.csv")).unwrap();
    assert!((2..=3).contains(&table.lines().count()), "{table}");
    assert!(!Path::new(place).exists(), "the device is not left as it was");
    // Again as a step of its own, for every network of the front.
    let mut measure = inas();
    measure.args(["search", "measure", "--profile", "profiles/nano-128-tract1", "--train-data", "data/mini/train.lst"]);
    measure.args(["--val-data", "data/mini/val.lst", "--calibration", "8", "--rounds", "1", "--supernet"]);
    measure.arg(&SUPERNET.1).args(["--remote-folder", place]).arg(&out);
    finish(measure);
    let rows = std::fs::read_to_string(out.join("measured.csv")).unwrap().lines().count();
    assert_eq!(rows, std::fs::read_to_string(out.join("front.csv")).unwrap().lines().count());
    let report: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(out.join("report.json")).unwrap()).unwrap();
    assert_eq!(report["measured"].as_array().unwrap().len(), rows - 1);
    // And the page again from its data.
    std::fs::remove_file(out.join("report.html")).unwrap();
    let mut render = inas();
    render.arg("report").arg(&out);
    finish(render);
    assert!(out.join("report.html").exists());
}

#[test]
fn an_experiment_writes_page_plots_and_raw_data() {
    let dir = tempfile::tempdir().unwrap();
    let mut list = inas();
    list.arg("experiment");
    let listed = String::from_utf8(list.output().unwrap().stdout).unwrap();
    assert!(listed.lines().count() >= 9 && listed.contains("table-3-5-integral"), "{listed}");
    let mut samplers = inas();
    samplers.args(["experiment", "fig-3-6-samplers", "-o"]).arg(dir.path());
    finish(samplers);
    let page = std::fs::read_to_string(dir.path().join("fig-3-6-samplers.md")).unwrap();
    for link in page.split(['(', ')']).filter(|l| l.starts_with("fig-3-6-samplers") && l.contains('.')) {
        assert!(dir.path().join(link).exists(), "{link}");
    }
    let raw = std::fs::read_to_string(dir.path().join("fig-3-6-samplers.csv")).unwrap();
    assert_eq!(raw.lines().count(), 1 + 2 * 3 * 1000);
    // A small search experiment, from the cache the second time.
    let config = dir.path().join("small.toml");
    std::fs::write(
        &config,
        "title = 't'\nthesis = 'x'\nkind = 'searches'\nseeds = [0, 1]\n[search]\npopulation = 6\ngroups = 2\nkeep = 2\n\
         iterations = 1\n[[run]]\nname = 'LGS'\nprofile = 'profiles/nano-128-tract1'\n[[run]]\nname = 'random'\n\
         profile = 'profiles/nano-128-tract1'\nstrategy = 'random'\n",
    )
    .unwrap();
    let run = |out: &str| {
        let mut command = inas();
        command.arg("experiment").arg(&config).arg("--supernet").arg(&SUPERNET.1).arg("-o").arg(dir.path().join(out));
        command.args(["--train-data", "data/mini/train.lst", "--val-data", "data/mini/val.lst", "--calibration", "8"]);
        command.arg("--cache").arg(dir.path().join("cache"));
        finish(command);
        std::fs::read_to_string(dir.path().join(out).join("small.csv")).unwrap()
    };
    let first = run("a");
    let evaluations = lines(&dir.path().join("cache"));
    assert_eq!((run("b"), lines(&dir.path().join("cache"))), (first, evaluations));
}
