//! Profiling and shipping over a real adb and a real ssh, on an emulated arm64 device, with the cross-compiled program; the
//! cross-compiled library in a C program there.
//!
//! `scripts/test` makes the device and what runs on it: `scripts/emulated-device cargo test … --test devices -- --ignored`.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use inas_device::Target;
use inas_device::session::{DEVICE_FILE, Visit};
use inas_profiler::Profile;

const TINY: &str = include_str!("tiny-space.toml");

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run this through scripts/emulated-device"))
}

/// Root folder of the device.
fn root() -> PathBuf {
    variable("INAS_TEST_ROOT").into()
}

/// A file of what scripts/build-device made.
fn built(name: &str, file: &str) -> PathBuf {
    let target = Path::new(env!("CARGO_BIN_EXE_inas")).parent().unwrap().parent().unwrap();
    let file = target.join("device").join(name).join(file);
    assert!(
        file.is_file(),
        "no {}: run scripts/build-device --with-library --profile device-test {name}",
        file.display()
    );
    file
}

fn program(name: &str) -> PathBuf {
    built(name, "inas-profiler")
}

/// Folder of the repository.
fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn inas(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_inas"));
    command.args(arguments).stdin(Stdio::null());
    command
}

fn words(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// `inas profile` of the tiny space on targets, with a program for them.
fn profile(folder: &Path, targets: &[&str], program_name: &str, seed: &str) -> Command {
    let space = folder.join("tiny.toml");
    std::fs::write(&space, TINY).unwrap();
    let mut command = inas(&["profile", "--max-runs", "12", "--max-seconds", "2", "--cold-runs", "0", "--seed", seed]);
    command.arg("--space").arg(space).arg("--out").arg(folder.join("out"));
    command.arg("--profiler-bin").arg(program(program_name));
    for target in targets {
        command.args(["--target", target]);
    }
    command
}

fn visit(folder: &Path) -> Visit {
    serde_json::from_slice(&std::fs::read(folder.join(DEVICE_FILE)).unwrap()).unwrap()
}

/// Blocks in the records of runs that are under way on the phone.
fn measured_on_phone() -> usize {
    let folders = std::fs::read_dir(root().join("data/local/tmp/inas")).into_iter().flatten().flatten();
    let texts = folders.filter_map(|f| std::fs::read_to_string(f.path().join("records.jsonl")).ok());
    texts.map(|t| t.lines().filter(|l| l.contains("\"key\"")).count()).sum()
}

/// Starts a run over adb, ends adbd once some blocks are measured, and returns what the run said.
fn cut_off(folder: &Path, seed: &str) -> (String, String) {
    let mut run = profile(folder, &[&variable("INAS_TEST_ADB")], "musl", seed);
    let run = run.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let start = Instant::now();
    while measured_on_phone() < 3 {
        assert!(start.elapsed() < Duration::from_mins(2), "nothing was measured");
        std::thread::sleep(Duration::from_millis(20));
    }
    let pid = std::fs::read_to_string(Path::new(&variable("INAS_TEST_DIR")).join("adbd.pid")).unwrap();
    assert!(Command::new("kill").args(["-9", pid.trim()]).status().unwrap().success());
    let output = run.wait_with_output().unwrap();
    let told = words(&output);
    assert!(output.status.success(), "{told:?}");
    told
}

#[test]
#[ignore = "needs an emulated device: scripts/test"]
fn a_phone_and_a_board_at_the_same_time() {
    let folder = tempfile::tempdir().unwrap();
    let (adb, ssh) = (variable("INAS_TEST_ADB"), variable("INAS_TEST_SSH"));
    let output = profile(folder.path(), &[&adb, &ssh], "musl", "1").output().unwrap();
    let (out, err) = words(&output);
    assert!(output.status.success(), "{out}{err}");
    for (target, home) in [(&adb, "data/local/tmp/inas"), (&ssh, "home/nano/.cache/inas")] {
        let made = folder.path().join("out").join(target.replace([':', '@'], "-"));
        let profile = Profile::read(&made).unwrap();
        let device = &profile.facts().device;
        assert_eq!((device.arch.as_deref(), device.emulator.as_deref()), (Some("aarch64"), Some("qemu-aarch64")));
        assert_eq!(device.cores.first().and_then(|c| c.governor.as_deref()), Some("schedutil"));
        assert!(profile.rows().values().any(|r| r.measurement.median_us > 0.0));
        assert_eq!((visit(&made).target.as_str(), visit(&made).cuts), (target.as_str(), 0));
        assert!(!root().join(home).exists(), "{home} is left on the device");
        assert!(out.contains(target.as_str()), "{out}");
    }
    assert!(err.contains("say nothing of a real device"), "{err}");
}

#[test]
#[ignore = "needs an emulated device: scripts/test"]
fn a_pulled_cable_is_survived() {
    let folder = tempfile::tempdir().unwrap();
    let (_, err) = cut_off(folder.path(), "2");
    assert!(err.contains("connection lost") && err.contains("back, going on"), "{err}");
    let out = folder.path().join("out");
    Profile::read(&out).unwrap();
    assert_eq!((visit(&out).cuts, visit(&out).reboots), (1, 0));
}

#[test]
#[ignore = "needs an emulated device: scripts/test"]
fn a_restart_of_the_device_is_survived() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(Path::new(&variable("INAS_TEST_DIR")).join("reboot"), "").unwrap();
    let (_, err) = cut_off(folder.path(), "3");
    assert!(err.contains("back after a restart"), "{err}");
    let out = folder.path().join("out");
    Profile::read(&out).unwrap();
    assert_eq!(visit(&out).reboots, 1);
}

#[test]
#[ignore = "needs an emulated device: scripts/test"]
fn the_board_runs_onnx_runtime() {
    let folder = tempfile::tempdir().unwrap();
    let mut run = profile(folder.path(), &[&variable("INAS_TEST_SSH")], "jetson", "4");
    let output = run.args(["--runtime", "ort", "--ort-lib", &variable("INAS_TEST_ORT")]).output().unwrap();
    let told = words(&output);
    assert!(output.status.success(), "{told:?}");
    let profile = Profile::read(&folder.path().join("out")).unwrap();
    assert_eq!(
        (profile.facts().runtime.name.as_str(), profile.facts().runtime.version.as_str()),
        ("onnxruntime", "1.23.2")
    );
    assert!(profile.facts().device.emulator.is_some());
}

#[test]
#[ignore = "needs an emulated device: scripts/test"]
fn devices_and_doctor_tell_what_is_there_and_what_is_wrong() {
    let (adb, ssh) = (variable("INAS_TEST_ADB"), variable("INAS_TEST_SSH"));
    let output = inas(&["devices", "--json", "--target", &adb, "--target", &ssh]).output().unwrap();
    assert!(output.status.success(), "{:?}", words(&output));
    let list: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let of = |target: &str| list.as_array().unwrap().iter().find(|d| d["target"] == target).unwrap()["facts"].clone();
    assert_eq!((&of(&adb)["model"], &of(&adb)["machine"]), (&"Emulated".into(), &"aarch64".into()));
    assert_eq!(of(&adb)["battery"]["percent"], 87);
    assert_eq!(of(&ssh)["machine"], "aarch64");

    let musl = program("musl");
    let doctor = |target: &str, program: &Path| {
        let output = inas(&["doctor", "--target", target, "--profiler-bin"]).arg(program).output().unwrap();
        (output.status.code(), words(&output).0)
    };
    for target in [&adb, &ssh] {
        let (code, out) = doctor(target, &musl);
        assert_eq!(code, Some(0), "{out}");
        assert!(out.contains("works, under the emulator qemu-aarch64") && out.contains("governor: schedutil"), "{out}");
        assert!(out.contains("tract: ") && !out.contains("FAILED"), "{out}");
    }
    let (code, out) = doctor(&adb, Path::new(env!("CARGO_BIN_EXE_inas")));
    assert!(code == Some(1) && out.contains("FAILED") && out.contains("the device is aarch64"), "{out}");
    for (target, found, remedy) in [
        ("ssh:nano@127.0.0.1:9", "Connection refused", "sshd"),
        ("ssh:nobody@127.0.0.1:2222", "Permission denied", "ssh-copy-id"),
        ("adb:127.0.0.1:9", "not found", "cable"),
        ("adb:R58M000000", "no such device", "USB debugging"),
    ] {
        let (code, out) = doctor(target, &musl);
        assert!(code == Some(1) && out.contains(found) && out.contains(remedy), "{target}: {out}");
    }
}

/// A successful run from the repository's folder; what it printed.
fn succeed(command: &mut Command) -> String {
    let output = command.current_dir(repository()).output().unwrap();
    let (out, err) = words(&output);
    assert!(output.status.success(), "{command:?}: {out}{err}");
    out
}

#[test]
#[ignore = "needs an emulated device: scripts/test"]
fn a_network_is_shipped_to_a_phone_and_a_board() {
    let folder = tempfile::tempdir().unwrap();
    let (adb, ssh) = (variable("INAS_TEST_ADB"), variable("INAS_TEST_SSH"));
    succeed(&mut profile(folder.path(), &[&adb], "musl", "5"));
    let train = ["--quiet", "train", "--run", "nano", "--data", "data/mini/train.lst", "--steps", "2", "--batch", "4"];
    let mut train = inas(&train);
    train.args(["--set", "train.warmup_steps=1", "--space"]).arg(folder.path().join("tiny.toml"));
    succeed(train.arg("-o").arg(folder.path().join("train")));

    let ship = |target: &str, out: &str| {
        let mut ship = inas(&["ship", "--max-latency", "60000", "--target", target, "--rounds", "2"]);
        ship.args(["--train-data", "data/mini/train.lst", "--val-data", "data/mini/val.lst", "--calibration", "8"]);
        ship.arg("--supernet").arg(folder.path().join("train/supernet.safetensors"));
        ship.arg("--profile").arg(folder.path().join("out")).arg("--profiler-bin").arg(program("musl"));
        ship.arg("-o").arg(folder.path().join(out));
        ship
    };
    let shipped = |target: &str, out: &str, home: &str, said: &str| {
        assert!(said.trim_end().ends_with(&format!("on {target}: shipped")), "{said}");
        let files = std::fs::read_dir(folder.path().join(out)).unwrap().map(|e| e.unwrap().path());
        let models: Vec<PathBuf> = files.filter(|f| f.extension().is_some_and(|e| e == "onnx")).collect();
        let [model] = models.as_slice() else { panic!("{models:?}") };
        let card = std::fs::read(model.with_extension("card.json")).unwrap();
        let card: serde_json::Value = serde_json::from_slice(&card).unwrap();
        let found = &card["shipped"];
        assert_eq!((&found["target"], &found["device"]["machine"]), (&target.into(), &"aarch64".into()));
        assert!(found["measured"]["latency"]["median_us"].as_f64() > Some(0.0), "{card}");
        let inside = inas_graph::metadata(&std::fs::read(model).unwrap()).unwrap();
        let inside = &inside.iter().find(|(key, _)| key == "inas.card").unwrap().1;
        assert_eq!(serde_json::from_str::<serde_json::Value>(inside).unwrap(), card);
        assert!(!root().join(home).exists(), "{home} is left on the device");
    };
    // Over adb with a search of its own, over ssh with the front that it found.
    let said = succeed(ship(&adb, "phone").args(["--population", "4", "--iterations", "1"]));
    shipped(&adb, "phone", "data/local/tmp/inas", &said);
    let said = succeed(ship(&ssh, "board").arg("--front").arg(folder.path().join("phone/search/front.json")));
    shipped(&ssh, "board", "home/nano/.cache/inas", &said);
}

#[test]
#[ignore = "needs an emulated device: scripts/test"]
fn cells_of_a_genotype_are_measured_on_a_phone_and_a_board() {
    let folder = tempfile::tempdir().unwrap();
    for (device, home) in [("INAS_TEST_ADB", "data/local/tmp/inas"), ("INAS_TEST_SSH", "home/nano/.cache/inas")] {
        let target = variable(device);
        let size = ["--form", "cifar", "--channels", "4", "--cells", "3", "--classes", "10", "--px", "32"];
        let mut profile = inas(&["dots", "profile", "dots-c10", "--target", &target, "--rounds", "1"]);
        profile.args(size).args(["--max-runs", "6", "--max-seconds", "2"]).arg("--profiler-bin").arg(program("musl"));
        let told = succeed(profile.arg("-o").arg(folder.path().join(device)));
        assert!(told.contains("normal cell") && told.contains("of the sum"), "{told}");
        assert!(folder.path().join(device).join("blocks.json").is_file());
        assert!(!root().join(home).exists(), "{home} is left on the device");
    }
}

/// Compiles the C example for the device.
fn compile(zig_target: &str, library: &[&std::ffi::OsStr], to: &Path) {
    let cross = std::env::var_os("INAS_CROSS").map_or_else(|| repository().join(".cross"), PathBuf::from);
    let capi = repository().join("src/capi");
    let mut cc = Command::new(cross.join("bin").join(format!("cc-{zig_target}")));
    cc.args(["-std=c11", "-O1", "-I"]).arg(capi.join("include")).arg(capi.join("examples/mask.c")).args(library);
    succeed(cc.arg("-o").arg(to));
}

#[test]
#[ignore = "needs an emulated device: scripts/test"]
fn the_library_gives_a_c_program_the_mask_that_it_gives_here() {
    let folder = tempfile::tempdir().unwrap();
    let photo = image::open(repository().join("data/photos/astronaut.jpg")).unwrap().thumbnail(96, 96).into_rgb8();
    let (width, height) = photo.dimensions();
    let picture = folder.path().join("photo.ppm");
    std::fs::write(&picture, [format!("P6 {width} {height} 255\n").as_bytes(), photo.as_raw()].concat()).unwrap();
    // A tiny one: the device is emulated, and the library not optimised.
    let model = repository().join("fuzz/corpus/model/tiny-silu.onnx");
    let backend = inas_runtime::open(inas_runtime::RuntimeKind::Tract, 1, None).unwrap();
    let wanted = inas_runtime::Model::load(&model, backend.as_ref()).unwrap().run(&photo).unwrap().mask;

    let shared = built("jetson", "libinas_c.so");
    let device = Target::Ssh { login: "nano@127.0.0.1".into(), port: Some(2222) };
    assert_eq!(device.to_string(), variable("INAS_TEST_SSH"));
    let mut device = device.open(None).unwrap();
    device.connect().unwrap();
    compile("aarch64-linux-gnu.2.27", &[shared.as_os_str()], &folder.path().join("shared"));
    let fixed = built("musl", "libinas_c.a");
    compile(
        "aarch64-linux-musl",
        &[fixed.as_os_str(), "-static".as_ref(), "-lunwind".as_ref()],
        &folder.path().join("static"),
    );
    let there: [(&Path, &str); 5] = [
        (&model, "tiny.onnx"),
        (&picture, "photo.ppm"),
        (&shared, "libinas_c.so"),
        (&folder.path().join("shared"), "shared"),
        (&folder.path().join("static"), "static"),
    ];
    for (file, name) in there {
        device.push(file, name).unwrap();
    }
    for program in ["shared", "static"] {
        let home = device.folder().to_owned();
        let said =
            device.shell(&format!("cd {home} && LD_LIBRARY_PATH=. ./{program} tiny.onnx photo.ppm mask.pgm")).unwrap();
        assert!(said.contains(&format!("{width} x {height} px in")), "{said}");
        let mask = folder.path().join("mask.pgm");
        device.fetch(&format!("{home}/mask.pgm"), &mask).unwrap();
        let mask = std::fs::read(mask).unwrap();
        let mask = &mask[mask.len() - wanted.len()..];
        // Other processors add up in another order.
        let off = mask.iter().zip(wanted.iter()).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        assert!(off <= 1, "{program}: a pixel is off by {off}");
    }
    let mut names: Vec<&str> = there.iter().map(|(_, name)| *name).collect();
    names.push("mask.pgm");
    device.remove(&names).unwrap();

    // What Android's class calls is in it, too.
    let symbols = succeed(Command::new("readelf").args(["-W", "--dyn-syms"]).arg(&shared));
    for native in ["Load", "Free", "InputSize", "WarmUp", "SetSmoothing", "Mask"] {
        assert!(symbols.contains(&format!("Java_inas_SaliencyModel_native{native}")), "{native}: {symbols}");
    }
}
