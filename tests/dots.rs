//! `inas dots` end to end on generated pictures.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};

use assert_cmd::Command;
use inas_dots::Genotype;
use inas_dots::data::Augment;
use inas_dots::run::{DotsRun, RUN_PRESETS};
use inas_dots::train::EvaluationConfig;

fn inas(args: &[&str]) -> assert_cmd::assert::Assert {
    Command::cargo_bin("inas").unwrap().arg("dots").args(args).assert()
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/dots")
}

/// CIFAR-10 records whose class is the brightness.
fn pictures(path: &Path, n: u32) {
    let record = |i: u32| {
        let class = (i * 7 % 10) as u8;
        std::iter::once(class).chain((0..3072u32).map(move |p| class * 20 + (p.wrapping_mul(i + 1) % 40) as u8))
    };
    std::fs::write(path, (0..n).flat_map(record).collect::<Vec<u8>>()).unwrap();
}

#[test]
fn parity_passes_and_finds_a_difference() {
    let out = inas(&["parity", golden().to_str().unwrap()]).success().get_output().stdout.clone();
    assert_eq!(String::from_utf8(out).unwrap().matches("  ok").count(), 17);
    let dir = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(golden()).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), dir.path().join(file.file_name())).unwrap();
    }
    let path = dir.path().join("meta.json");
    let text = std::fs::read_to_string(&path).unwrap();
    // Another operation in one of the genotypes.
    std::fs::write(&path, text.replacen("dil_conv_5x5", "dil_conv_3x3", 2)).unwrap();
    let out = inas(&["parity", dir.path().to_str().unwrap()]).code(1).get_output().stdout.clone();
    assert!(String::from_utf8(out).unwrap().contains("DIFFERS"));
}

/// A method's own schedule.
fn own(run: &DotsRun, epochs: usize, batch: usize, (first, last): (f64, f64)) {
    let search = &run.search;
    assert_eq!((search.op_stage(), search.batch(epochs - 1), search.batch(epochs)), (epochs, batch, 64));
    let close = |epoch: usize, lr: f64| assert!((search.lr(epoch) - lr).abs() < 1e-4, "{} {lr}", search.lr(epoch));
    close(0, first);
    close(epochs - 1, last);
    close(epochs, 0.025);
    assert_eq!(search.epochs(), epochs + 40);
}

#[test]
fn presets_hold_the_published_settings() {
    for (name, _) in RUN_PRESETS {
        let out = inas(&["search", "--run", name, "--show"]).success().get_output().stdout.clone();
        let run: DotsRun = toml::from_str(&String::from_utf8(out).unwrap()).unwrap();
        match name {
            "cifar10" | "cifar100" => {
                assert_eq!(run.search, inas_dots::train::SearchConfig::default());
                assert_eq!(run.evaluation, EvaluationConfig::default());
            }
            "imagenet" => {
                assert_eq!(run.evaluation, EvaluationConfig::imagenet());
                assert_eq!((run.search.phase(29).1, run.search.phase(30).1), (9, 0));
                assert_eq!((run.search.augment, run.search.shares), (Augment::IMAGENET_SEARCH, Some((0.1, 0.025))));
            }
            // Spec section 11: epochs, batch, first and last learning rate of the operation stage, then that of edges.
            "darts" => own(&run, 50, 64, (0.025, 0.001)),
            "gdas" => own(&run, 250, 256, (0.025, 0.001)),
            "snas" => {
                own(&run, 150, 64, (0.025, 0.001));
                assert_eq!(
                    (run.search.drop_path(0), run.search.drop_path(150), run.search.op_arch.clip),
                    (0.3, 0.0, 10.0)
                );
            }
            "pc-darts" => own(&run, 50, 256, (0.1, 0.0)),
            _ => (),
        }
    }
    let wrong = inas(&["search", "--set", "search.channel=3", "--show"]).code(1);
    let told = String::from_utf8(wrong.get_output().stderr.clone()).unwrap();
    assert!(told.contains("channel") && told.contains("hint:"), "{told}");
}

#[test]
fn search_derive_train_rank() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    pictures(Path::new(&path("train.bin")), 48);
    pictures(Path::new(&path("test.bin")), 20);
    let run = [
        "--run",
        "small",
        "--set",
        "data.limit=48",
        "--set",
        "search.op_epochs=[1, 1]",
        "--set",
        "search.topology_epochs=[1, 1]",
        "--set",
        "search.batch=12",
        "--set",
        "search.validate=12",
        "--set",
        "evaluation.epochs=1",
        "--set",
        "evaluation.channels=4",
        "--set",
        "evaluation.cells=3",
        "--set",
        "evaluation.aux=false",
        "--data",
        &path("train.bin"),
        "--test-data",
        &path("test.bin"),
    ];
    let with = |command: &str, more: &[&str]| {
        let mut args = vec![command];
        args.extend(more);
        args.extend(run);
        inas(&args).success().get_output().stdout.clone()
    };
    let found = with("search", &["-o", &path("search")]);
    let genotype = Genotype::from_json(&String::from_utf8(found).unwrap()).unwrap();
    // A finished search has nothing left to do.
    assert_eq!(with("search", &["-o", &path("search"), "--resume"]), genotype.to_json().into_bytes());
    for edges in ["dots", "darts", "random"] {
        let file = path(&format!("{edges}.json"));
        inas(&["derive", &path("search"), "--edges", edges, "-o", &file, "--svg", &path("cells.svg"), "--cost"])
            .success();
        Genotype::from_json(&std::fs::read_to_string(file).unwrap()).unwrap();
        assert!(std::fs::read_to_string(path("cells.svg")).unwrap().starts_with("<svg"));
    }
    let again = with("search", &["-o", &path("edges"), "--operations", &path("search/operations.json")]);
    Genotype::from_json(&String::from_utf8(again).unwrap()).unwrap();
    let told = String::from_utf8(with("train", &[&path("darts.json"), "-o", &path("train")])).unwrap();
    assert!(told.starts_with("test accuracy"), "{told}");
    for command in [&["search", "-o", &path("search")][..], &["train", &path("dots.json"), "-o", &path("train")]] {
        let begun = inas(&[command, &run].concat()).code(1);
        assert!(String::from_utf8_lossy(&begun.get_output().stderr).contains("--resume"), "{command:?}");
    }
    let told = String::from_utf8(with("rank", &[&path("search"), "-o", &path("rank")])).unwrap();
    assert!(told.contains("Kendall") && told.lines().count() == 12, "{told}");
    let refused = |command: &str, more: &[&str]| {
        let run = inas(&[&[command], more, &run[..]].concat()).code(1);
        String::from_utf8(run.get_output().stderr.clone()).unwrap()
    };
    // A run that is there is not begun anew.
    let result = std::fs::read(path("search/result.json")).unwrap();
    for told in [refused("search", &["-o", &path("search")]), refused("train", &["dots-c10", "-o", &path("train")])] {
        assert!(told.contains("holds a run already") && told.contains("hint: continue it with --resume"), "{told}");
    }
    assert_eq!(std::fs::read(path("search/result.json")).unwrap(), result);
    // Operations that no network can be made of.
    let text = std::fs::read_to_string(path("search/operations.json")).unwrap();
    let mut operations: serde_json::Value = serde_json::from_str(&text).unwrap();
    operations["retained"][1][13] = serde_json::json!(["none"]);
    std::fs::write(path("bad.json"), operations.to_string()).unwrap();
    let told = refused("search", &["-o", &path("new"), "--operations", &path("bad.json")]);
    assert!(told.contains("14 edges need equally many operations"), "{told}");
    assert!(!Path::new(&path("new")).exists());
}

#[test]
fn what_cannot_be_read_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    pictures(Path::new(&path("train.bin")), 4);
    let bytes = std::fs::read(path("train.bin")).unwrap();
    std::fs::write(path("short.bin"), &bytes[..5000]).unwrap();
    let out = path("out");
    let told = |args: &[&str]| {
        let run = inas(&[args, &["--run", "small", "-o", &out]].concat()).code(1);
        String::from_utf8(run.get_output().stderr.clone()).unwrap()
    };
    let has = |told: String, parts: [&str; 2]| assert!(parts.iter().all(|p| told.contains(p)), "{told}");
    has(told(&["search", "--data", &path("short.bin")]), ["short.bin", "1 pictures of 3073 bytes and 1927 bytes more"]);
    has(told(&["search", "--data", &path("none.bin")]), ["none.bin", "No such file"]);
    has(told(&["search"]), ["no files of train pictures", "hint: name them with --data"]);
    let data = path("train.bin");
    has(
        told(&["train", "dots-c10", "--data", &data]),
        ["no files of test pictures", "hint: name them with --test-data"],
    );
    // In both forms of a genotype.
    for cells in ["[[[\"sep_conv_9x9\", 0]]]", "[[\"sep_conv_9x9\", 0]]"] {
        std::fs::write(path("cells.json"), format!("{{\"normal\": {cells}, \"reduce\": []}}")).unwrap();
        has(told(&["train", &path("cells.json"), "--data", &data]), ["cells.json", "unknown variant `sep_conv_9x9`"]);
    }
    has(told(&["train", "no-such-genotype"]), ["no-such-genotype", "dots-c10"]);
    has(told(&["search", "--data", &data, "--set", "search.channels=3"]), ["3 channels", "even"]);
    assert!(!Path::new(&out).exists());
}
