//! The committed header is the one that the code gives; `UPDATE_HEADER=1` writes it.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use cbindgen::{Builder, Config, DocumentationStyle, EnumConfig, Language, RenameRule};

#[test]
fn header_is_current() {
    let source = common::root().join("src/capi/src");
    let config = Config {
        language: Language::C,
        cpp_compat: true,
        include_guard: Some("INAS_H".into()),
        header: Some(
            "/* Finds what is salient in photos and camera frames. Generated from src/capi; do not edit. */".into(),
        ),
        usize_is_size_t: true,
        documentation_style: DocumentationStyle::C99,
        enumeration: EnumConfig { rename_variants: RenameRule::QualifiedScreamingSnakeCase, ..EnumConfig::default() },
        ..Config::default()
    };
    let builder = Builder::new().with_config(config);
    let builder = ["status.rs", "types.rs", "model.rs"].iter().fold(builder, |b, file| b.with_src(source.join(file)));
    let mut header = Vec::new();
    builder.generate().unwrap().write(&mut header);
    let header = String::from_utf8(header).unwrap();
    let path = common::root().join("src/capi/include/inas.h");
    if std::env::var_os("UPDATE_HEADER").is_some() {
        std::fs::write(&path, &header).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), header, "run this test with UPDATE_HEADER=1");
}
