//! A new user runs the demo, resumes it, and meets the errors of bad input.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::{Path, PathBuf};

use assert_cmd::Command;

fn inas() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_inas"));
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."));
    command
}

fn stderr_of_failure(args: &[&str]) -> String {
    let output = inas().args(args).assert().code(1).get_output().clone();
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == extension))
        .collect();
    found.sort();
    found
}

#[test]
fn the_whole_path_works_and_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("demo");
    let demo = || {
        let mut command = inas();
        command.args(["demo", "--steps", "2", "--population", "10", "--iterations", "1", "-o"]).arg(&out);
        command
    };
    let output = demo().assert().success().get_output().clone();
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(table.contains("predicted ms") && table.contains("report.html"), "{table}");

    let models = files(&out.join("models"), "onnx");
    // After two steps of training the front may hold fewer networks than are asked for.
    assert!((1..=3).contains(&models.len()), "{models:?}");
    let page = std::fs::read_to_string(out.join("report.html")).unwrap();
    for model in &models {
        assert!(page.contains(model.file_stem().unwrap().to_str().unwrap()));
        let masks = files(&out.join("masks").join(model.file_stem().unwrap()), "png");
        assert_eq!(masks.len(), 8, "a mask and a cut-out of each of four photos");
    }
    let photos = files(&out.join("photos"), "jpg");
    let (photo, mask) = (image::open(&photos[0]).unwrap(), {
        let stem = photos[0].file_stem().unwrap().to_str().unwrap();
        let masks = out.join("masks").join(models[0].file_stem().unwrap());
        image::open(masks.join(format!("{stem}_mask.png"))).unwrap()
    });
    assert_eq!((photo.width(), photo.height()), (mask.width(), mask.height()));

    // The front is written as JSON and CSV, fastest first, never less accurate when slower.
    let front: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(out.join("search/front.json")).unwrap()).unwrap();
    let rows = std::fs::read_to_string(out.join("search/front.csv")).unwrap();
    assert_eq!(rows.lines().count(), front.as_array().unwrap().len() + 1);
    let mut latency = inas();
    latency.arg("latency").arg(out.join("search/front.json")).arg("--profile").arg(out.join("profile"));
    let predicted = latency.assert().success().get_output().stdout.clone();
    assert_eq!(String::from_utf8(predicted).unwrap().lines().count(), front.as_array().unwrap().len() + 1);

    // Again: nothing is measured, trained or evaluated twice, and the result is the same.
    let profile = std::fs::read(out.join("profile/records.jsonl")).unwrap();
    let evaluated = std::fs::read(out.join("search/evaluated.jsonl")).unwrap();
    demo().assert().success();
    assert_eq!(std::fs::read(out.join("profile/records.jsonl")).unwrap(), profile);
    assert_eq!(std::fs::read(out.join("search/evaluated.jsonl")).unwrap(), evaluated);
    assert_eq!(files(&out.join("models"), "onnx"), models);

    let other = demo().args(["--threads", "2"]).assert().code(1).get_output().stderr.clone();
    assert!(String::from_utf8(other).unwrap().contains("--out"));

    // The report can be rendered from its data alone, wherever the folder is.
    let moved = dir.path().join("moved");
    std::fs::rename(&out, &moved).unwrap();
    std::fs::remove_file(moved.join("report.html")).unwrap();
    inas().arg("report").arg(&moved).assert().success();
    assert!(moved.join("report.html").exists());

    // One bad photo among good ones: the good one is done, the exit code says that one was not.
    let bad = dir.path().join("bad.jpg");
    std::fs::write(&bad, b"no picture").unwrap();
    let model = files(&moved.join("models"), "onnx").remove(0);
    let output = inas()
        .arg("run")
        .arg(&model)
        .arg(&bad)
        .arg(moved.join("photos").join(photos[0].file_name().unwrap()))
        .arg("-o")
        .arg(dir.path().join("out"))
        .assert()
        .code(1)
        .get_output()
        .clone();
    let notes = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(notes.contains("1 ok, 1 failed") && notes.contains("bad.jpg"), "{notes}");

    // Other number formats are scored in both runtimes; the models score on a list and run on folders and pipes.
    let (dir_of, list) = (|name: &str| moved.join(name), |name: &str| format!("data/mini/{name}.lst"));
    let exported = inas()
        .args([
            "export",
            "--format",
            "fp16,int8",
            "--pick",
            "1",
            "--train-data",
            &list("train"),
            "--val-data",
            &list("val"),
        ])
        .arg("--supernet")
        .arg(dir_of("train/supernet.safetensors"))
        .arg("--profile")
        .arg(dir_of("profile"))
        .arg("-o")
        .arg(dir_of("formats"))
        .arg(dir_of("search/front.json"))
        .assert()
        .success()
        .get_output()
        .clone();
    let lines = String::from_utf8_lossy(&exported.stdout).into_owned();
    assert_eq!((lines.matches("  tract ").count(), lines.matches("  onnxruntime ").count()), (2, 2), "{lines}");
    let formats = files(&dir_of("formats"), "onnx");
    assert_eq!(formats.len(), 2);
    let scored =
        inas().args(["eval", "--json", "--data", &list("val")]).args(&formats).assert().success().get_output().clone();
    for line in String::from_utf8_lossy(&scored.stdout).lines() {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(row["images"], 20);
        assert!(row["scores"]["mae"].as_f64().unwrap() < 0.8, "{row}");
    }
    let all = dir.path().join("all");
    let mut folder = inas();
    folder.arg("run").arg(&formats[0]).arg(dir_of("photos")).args(["--write", "mask,blur,background", "--background"]);
    folder.arg(dir_of("photos").join(photos[0].file_name().unwrap())).arg("-o").arg(&all).assert().success();
    assert_eq!(files(&all, "png").len(), 3 * photos.len());
    // Without a model the built-in one runs.
    let plain = dir.path().join("plain");
    let photo_path = dir_of("photos").join(photos[0].file_name().unwrap());
    inas().arg("run").arg(&photo_path).arg("-o").arg(&plain).assert().success();
    assert_eq!(files(&plain, "png").len(), 2);
    let jpeg = std::fs::read(dir_of("photos").join(photos[0].file_name().unwrap())).unwrap();
    let piped = inas().arg("run").arg(&formats[0]).arg("-").write_stdin(jpeg).assert().success().get_output().clone();
    let mask = image::load_from_memory(&piped.stdout).unwrap();
    assert_eq!((mask.width(), mask.height()), (photo.width(), photo.height()));

    ship(&moved, &photo_path);

    // A model cut in half is one clear error.
    let half = dir.path().join("half.onnx");
    let bytes = std::fs::read(&model).unwrap();
    std::fs::write(&half, &bytes[..bytes.len() / 2]).unwrap();
    let error = stderr_of_failure(&["run", half.to_str().unwrap(), photos_arg(&moved).to_str().unwrap()]);
    assert!(error.starts_with("error: ") && error.contains("half.onnx"), "{error}");

    // So is a truncated profile.
    let csv = moved.join("profile/blocks.csv");
    let text = std::fs::read_to_string(&csv).unwrap();
    std::fs::write(&csv, &text[..text.len() / 2]).unwrap();
    let arch = dir.path().join("arch.json");
    let drawn = inas().args(["space", "nano", "--draw", "min"]).assert().success().get_output().stdout.clone();
    std::fs::write(&arch, drawn).unwrap();
    let error =
        stderr_of_failure(&["latency", arch.to_str().unwrap(), "--profile", moved.join("profile").to_str().unwrap()]);
    assert!(error.starts_with("error: ") && error.contains("blocks.csv"), "{error}");
}

/// From the supernet and the profile to a measured model that takes bytes, in one command.
fn ship(demo: &Path, photo: &Path) {
    let command = |limit: &str| {
        let mut ship = inas();
        ship.args(["ship", "--pixels", "--max-latency", limit, "--target", "local"])
            .args(["--train-data", "data/mini/train.lst", "--val-data", "data/mini/val.lst"])
            .arg("--remote-folder")
            .arg(demo.join("device"))
            .arg("--supernet")
            .arg(demo.join("train/supernet.safetensors"))
            .arg("--profile")
            .arg(demo.join("profile"))
            .arg("--front")
            .arg(demo.join("search/front.json"))
            .arg("-o")
            .arg(demo.join("shipped"));
        ship
    };
    let output = command("5000").assert().success().get_output().clone();
    let line = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(line.contains("measured") && line.trim_end().ends_with("on local: shipped"), "{line}");
    let models = files(&demo.join("shipped"), "onnx");
    let [model] = models.as_slice() else { panic!("{models:?}") };
    let card = std::fs::read_to_string(model.with_extension("card.json")).unwrap();
    let card: serde_json::Value = serde_json::from_str(&card).unwrap();
    assert!(card["shipped"]["measured"]["latency"]["median_us"].as_f64() > Some(0.0), "{card}");
    assert!(
        card["macs"].as_u64() > Some(0) && card["f_max"].is_f64() && card["profile"]["runtime"] == "tract",
        "{card}"
    );
    let inside = inas_graph::metadata(&std::fs::read(model).unwrap()).unwrap();
    let inside = &inside.iter().find(|(key, _)| key == "inas.card").unwrap().1;
    assert_eq!(serde_json::from_str::<serde_json::Value>(inside).unwrap(), card);
    assert!(!demo.join("device").exists(), "the device is left as it was");
    inas().arg("run").arg(model).arg(photo).arg("-o").arg(demo.join("bytes")).assert().success();
    assert_eq!(files(&demo.join("bytes"), "png").len(), 2);

    let output = command("0.0001").assert().code(1).get_output().clone();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("no network of") && error.contains("hint: "), "{error}");
}

fn photos_arg(demo: &Path) -> PathBuf {
    files(&demo.join("photos"), "jpg").remove(0)
}

#[test]
fn bad_input_is_one_clear_error() {
    assert!(stderr_of_failure(&["space", "iccv"]).contains("iccv21"));
    assert!(stderr_of_failure(&["space", "nano", "--px", "100"]).contains("multiple of 32"));
    assert!(stderr_of_failure(&["train", "--data", "nowhere.lst", "-o", "unused"]).contains("nowhere.lst"));
    assert!(stderr_of_failure(&["demo", "--data", "nowhere", "-o", "unused"]).contains("hint: "));
    let ort = ["profile", "--runtime", "ort", "--ort-lib", "nowhere.so", "-o", "unused"];
    let error = stderr_of_failure(&ort);
    assert!(error.contains("nowhere.so") && error.contains("onnxruntime"), "{error}");
    inas().args(["profile", "--runtime", "onnx", "-o", "unused"]).assert().code(2);
    assert!(stderr_of_failure(&["train", "--run", "nanno", "-o", "unused"]).contains("iccv21"));
    assert!(stderr_of_failure(&["bench", "README.md"]).contains("README.md"));
    for option in ["--threads=100000", "--threads=0", "--runs=0"] {
        inas().args(["bench", "models/fast.onnx", option]).assert().code(2);
    }

    let dir = tempfile::tempdir().unwrap();
    let arch = dir.path().join("arch.json");
    let drawn = inas().args(["space", "iccv21", "--draw", "min"]).assert().success().get_output().stdout.clone();
    std::fs::write(&arch, drawn).unwrap();
    let arch = arch.to_str().unwrap();
    let error = stderr_of_failure(&["latency", arch, "--profile", "profiles/nano-128-tract1"]);
    assert!(error.contains("arch.json") && error.contains("outside space `nano`"), "{error}");
    let without = inas().args(["latency", arch]).assert().code(2).get_output().stderr.clone();
    assert!(String::from_utf8(without).unwrap().contains("--table"));

    let models = stderr_of_failure(&["run", "models/fast.onnx", "models/best.onnx", "data/photos", "-o", "unused"]);
    assert!(models.contains("best.onnx is no photo") && models.contains("hint: "), "{models}");

    // A label of another photo.
    let photo = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/photos").join(name);
    let list = dir.path().join("pairs.lst");
    std::fs::write(&list, format!("{} {}\n", photo("astronaut.jpg").display(), photo("coffee.jpg").display())).unwrap();
    let error = stderr_of_failure(&["eval", "models/fast.onnx", "--data", list.to_str().unwrap()]);
    assert!(error.contains("line 1") && error.contains("512x512"), "{error}");
}
