//! `inas lut` and `inas profile`'s steps, as users call them.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use assert_cmd::Command;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/lut").join(name)
}

/// Standard output of `inas` with these arguments, which must succeed.
fn inas(args: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_inas"));
    String::from_utf8(command.args(args).assert().success().get_output().stdout.clone()).unwrap()
}

fn failure(args: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_inas"));
    String::from_utf8(command.args(args).assert().code(1).get_output().stderr.clone()).unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn release_tables_come_in_predict_alike_and_go_out_again() {
    let dir = tempfile::tempdir().unwrap();
    let (profile, copy) = (dir.path().join("profile"), dir.path().join("copy.txt"));
    let table = golden("lut_224.txt");
    inas(&[
        "lut",
        "import",
        "--release",
        text(&table),
        "--space",
        "iccv21",
        "--resolution",
        "224",
        "-o",
        text(&profile),
    ]);
    let archs = golden("lut_sums.json");
    let out = inas(&["lut", "predict", "--profile", text(&profile), "--release-archs", text(&archs), "--json"]);
    let found: serde_json::Value = serde_json::from_str(&out).unwrap();
    let wanted: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&archs).unwrap()).unwrap();
    let (found, wanted) = (found.as_array().unwrap(), wanted.as_array().unwrap());
    assert_eq!(found.len(), wanted.len());
    for (f, w) in found.iter().zip(wanted) {
        for name in ["total_latency", "backbone_latency", "transport_latency", "decoder_latency"] {
            let (f, w) = (f[name].as_f64().unwrap(), w["latency"][name].as_f64().unwrap());
            assert!((f - w).abs() < 1e-6, "{name}: {f} {w}");
        }
    }
    inas(&["lut", "export", "--profile", text(&profile), "-o", text(&copy)]);
    let lines = |path: &Path| -> BTreeSet<String> {
        std::fs::read_to_string(path).unwrap().lines().map(ToOwned::to_owned).collect()
    };
    assert_eq!(lines(&copy), lines(&table));

    // The same table does not fit another size, and a second import does not overwrite.
    let again = ["lut", "import", "--release", text(&table), "--space", "iccv21", "--resolution", "224", "-o"];
    let error = failure(&[&again[..], &[text(&profile)]].concat());
    assert!(error.contains("holds a profile"), "{error}");
    let error =
        failure(&["lut", "import", "--release", text(&table), "--space", "iccv21", "--resolution", "256", "-o", "x"]);
    assert!(error.contains("missing") && error.contains("lut_224.txt"), "{error}");
}

#[test]
fn a_profile_is_planned_measured_calibrated_verified_and_explained() {
    let dir = tempfile::tempdir().unwrap();
    let profile = dir.path().join("p");
    let p = text(&profile);
    let plan: serde_json::Value =
        serde_json::from_str(&inas(&["profile", "plan", "--px", "32", "--probe", "5", "--json"])).unwrap();
    assert!(plan["blocks"].as_u64() > Some(400) && plan["one_pass_s"].as_f64() > Some(0.0), "{plan}");
    // 10 networks are the fewest that are fitted.
    inas(&["profile", "--px", "32", "--max-passes", "1", "--max-runs", "10", "--calibrate", "10", "-o", p]);
    let out = inas(&["profile", "verify", "--profile", p, "--nets", "5", "--seed", "3", "--json"]);
    let found: serde_json::Value = serde_json::from_str(&out).unwrap();
    for model in ["sum", "calibrated"] {
        for name in ["mape_percent", "bias_percent", "within_5_percent", "within_10_percent", "spearman", "kendall"] {
            assert!(found[model][name].is_f64(), "{model} {name} {out}");
        }
    }
    assert!(std::fs::read_to_string(profile.join("verification.md")).unwrap().contains("| calibrated |"));
    assert!(std::fs::read_to_string(profile.join("verification.svg")).unwrap().contains("http://www.w3.org/2000/svg"));
    assert_eq!(std::fs::read_to_string(profile.join("verification.csv")).unwrap().lines().count(), 6);

    let arch = dir.path().join("arch.json");
    std::fs::write(&arch, inas(&["space", "nano", "--draw", "max"])).unwrap();
    let out = inas(&["lut", "explain", text(&arch), "--profile", p, "--json"]);
    let explained: serde_json::Value = serde_json::from_str(&out).unwrap();
    let share = |name: &str| -> f64 {
        explained["blocks"].as_array().unwrap().iter().map(|b| b[name].as_f64().unwrap()).sum::<f64>() / 1e3
    };
    assert!((share("latency_us") - explained["sum_ms"].as_f64().unwrap()).abs() < 1e-6);
    assert!((share("model_us") - explained["predicted_ms"].as_f64().unwrap()).abs() < 1e-6);
    let shown = inas(&["latency", text(&arch), "--profile", p]);
    assert!(shown.contains(&format!("{:.3}", explained["predicted_ms"].as_f64().unwrap())), "{shown}");
    let plain = inas(&["latency", text(&arch), "--profile", p, "--plain-sum"]);
    assert!(plain.contains(&format!("{:.3}", explained["sum_ms"].as_f64().unwrap())), "{plain}");

    assert!(inas(&["lut", "show", p, "--filter", "mbconv", "--slowest"]).lines().count() > 50);
    assert!(inas(&["lut", "diff", p, p]).contains("median 1.000"));
    let merged = dir.path().join("merged");
    inas(&["lut", "merge", p, p, "-o", text(&merged)]);
    assert!(inas(&["lut", "check", text(&merged), "--allow", "100"]).contains("whole"));

    // An architecture with a channel count between measured ones, in a space that has it.
    let toml = inas(&["space", "nano", "--toml"]).replace("channels = [\n    64,\n    80,\n]", "channels = [72]");
    let other = dir.path().join("other.toml");
    std::fs::write(&other, toml.replace("[64, 80]", "[72]")).unwrap();
    std::fs::write(&arch, inas(&["space", text(&other), "--draw", "max"])).unwrap();
    assert!(failure(&["lut", "explain", text(&arch), "--profile", p]).contains("72"));
    let out = inas(&["lut", "explain", text(&arch), "--profile", p, "--space", text(&other)]);
    assert!(out.contains("interpolated between measured channel counts"), "{out}");
}

#[test]
fn a_model_is_measured_and_compared() {
    let dir = tempfile::tempdir().unwrap();
    let (model, base) = (dir.path().join("m.onnx"), dir.path().join("base.json"));
    let space = inas_space::Space::preset("nano").unwrap();
    let graph = inas_graph::network(&space, &space.min(), 32, &mut inas_graph::SeededWeights::new(1)).unwrap();
    std::fs::write(&model, graph.to_onnx(&inas_graph::OnnxOptions::default()).unwrap()).unwrap();
    let out = inas(&["bench", text(&model), "--json", "-o", text(&base)]);
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((report["runs"].as_u64(), report["rounds_us"].as_array().unwrap().len()), (Some(100), 5));
    // A baseline of the same machine that was a hundred times slower, and one of another machine.
    let edit = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut report = report.clone();
        change(&mut report);
        std::fs::write(&base, report.to_string()).unwrap();
    };
    edit(&|r| r["percentiles_us"][0] = (r["percentiles_us"][0].as_f64().unwrap() * 100.0).into());
    assert!(inas(&["bench", text(&model), "--compare", text(&base)]).contains("BETTER"));
    edit(&|r| r["percentiles_us"][0] = (r["percentiles_us"][0].as_f64().unwrap() / 100.0).into());
    failure(&["bench", text(&model), "--compare", text(&base)]);
    edit(&|r| r["fingerprint"] = "0".into());
    failure(&["bench", text(&model), "--compare", text(&base)]);
    assert!(inas(&["bench", text(&model), "--sustained", "1s", "--format", "csv"]).starts_with("p50_us,"));
    assert!(inas(&["bench", text(&model), "--format", "markdown"]).contains("| p50 ms |"));
}
