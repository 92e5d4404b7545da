//! The committed JSON Schemas are those of the code, and what is committed or written fits them.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::{Path, PathBuf};

use assert_cmd::Command;
use inas_host::schema::{Form, forms};
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn file(form: &Form) -> PathBuf {
    root().join(format!("schemas/{}.v{}.json", form.name, form.version))
}

/// `INAS_BLESS=1` writes the files instead.
#[test]
fn committed_schemas_are_those_of_the_code() {
    let forms = forms();
    for form in &forms {
        let text = form.text().unwrap() + "\n";
        if std::env::var_os("INAS_BLESS").is_some() {
            std::fs::write(file(form), &text).unwrap();
        }
        let committed = std::fs::read_to_string(file(form)).unwrap_or_default();
        let hint = "a reader must know of a change: raise the version, then INAS_BLESS=1 cargo test --test schemas";
        assert!(committed == text, "schemas/{}.v{}.json differs from the code; {hint}", form.name, form.version);
    }
    let of_code =
        |name: &str| forms.iter().any(|f| name.strip_prefix(f.name).is_some_and(|rest| rest.starts_with(".v")));
    for entry in std::fs::read_dir(root().join("schemas")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(of_code(&name), "{name} belongs to no form");
    }
}

fn check(name: &str, value: &Value) {
    let form = forms().into_iter().find(|f| f.name == name).unwrap();
    let validator = jsonschema::validator_for(form.schema.as_value()).unwrap();
    let errors: Vec<String> = validator.iter_errors(value).map(|e| format!("{}: {e}", e.instance_path())).collect();
    assert!(errors.is_empty(), "{name}: {errors:?}\n{value}");
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

fn printed(args: &[&str]) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_inas"));
    let output = command.current_dir(root()).args(args).assert().success().get_output().clone();
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn shipped_profiles_fit() {
    let mut found = 0;
    for entry in std::fs::read_dir(root().join("profiles")).unwrap() {
        let folder = entry.unwrap().path();
        if folder.is_dir() {
            check("profile", &json(&folder.join("profile.json")));
            check("calibration", &json(&folder.join("calibration.json")));
            found += 1;
        }
    }
    assert!(found > 0);
}

#[test]
fn what_the_commands_write_fits() {
    let dir = tempfile::tempdir().unwrap();
    let space = dir.path().join("tiny.toml");
    std::fs::write(&space, include_str!("tiny-space.toml")).unwrap();
    let (space, profile) = (space.to_str().unwrap(), dir.path().join("profile"));
    let folder = profile.to_str().unwrap();
    let quick = ["--max-runs", "10", "--max-passes", "1", "--cold-runs", "1"];
    check("plan", &printed(&["profile", "plan", "--space", space, "--json"]));
    let mut command = Command::new(env!("CARGO_BIN_EXE_inas"));
    command.args(["profile", "--space", space, "-o", folder]).args(quick).assert().success();
    let records = lines(&profile.join("records.jsonl"));
    check("records-header", &records[0]);
    records[1..].iter().for_each(|r| check("records-entry", r));
    check("profile", &json(&profile.join("profile.json")));
    check("verification", &printed(&["profile", "verify", "--profile", folder, "--nets", "2", "--json"]));
    let report = printed(&["bench", "models/fast.onnx", "--rounds", "1", "--runs", "2", "--operators", "--json"]);
    assert!(report["operators"].as_array().is_some_and(|o| o.len() > 20));
    check("bench", &report);
    for form in forms() {
        assert_eq!(printed(&["schema", form.name]), *form.schema.as_value());
    }
}
