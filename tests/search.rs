//! `inas search` as a program: killed and resumed, shared out and merged, on impossible wishes, from a partial space.
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
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."));
    command
}

/// A small search into a folder.
fn search(out: &Path, more: &[&str]) -> Command {
    let mut command = inas();
    command.args(["search", "--profile", "profiles/nano-128-tract1", "--train-data", "data/mini/train.lst"]);
    command.args(["--val-data", "data/mini/val.lst", "--calibration", "8", "--population", "10", "--keep", "4"]);
    command.args(["--groups", "4", "--iterations", "2", "--supernet"]).arg(&SUPERNET.1).arg("-o").arg(out).args(more);
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
    refused.args(["search", "--profile", "profiles/nano-128-tract1", "--calibration", "8", "--population", "10"]);
    refused.args(["--keep", "4", "--groups", "4", "--iterations", "2", "--resume", "--supernet"]).arg(&SUPERNET.1);
    refused.arg("--train-data").arg(copy.join("train.lst")).arg("--val-data").arg(copy.join("val.lst"));
    let said = refused.arg("-o").arg(&killed).output().unwrap();
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("of another search") && said.contains("objective"), "{said}");

    // Shared out over processes.
    let shared = dir.path().join("shared");
    let shards: Vec<_> =
        ["0/2", "1/2"].map(|part| search(&shared, &["--shard", part, "--jobs", "1"]).spawn().unwrap()).into();
    for shard in shards {
        let output = shard.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let mut merge = inas();
    merge.args(["search", "merge"]).arg(&shared);
    finish(merge);
    assert_same(&whole, &shared);

    // Without its partner a shard does its part and says what is missing.
    let alone = dir.path().join("alone");
    let output = search(&alone, &["--shard", "1/2", "--shard-wait", "0"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("wait for other shards"), "{said}");
}

/// The validation images of the mini set in another folder, changed.
fn copy_set(to: &Path, change: impl Fn(&str, Vec<u8>) -> Vec<u8>) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/mini");
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
