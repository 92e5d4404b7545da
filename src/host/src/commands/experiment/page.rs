//! The page of an experiment, with its raw data and plots beside it.

use std::path::{Path, PathBuf};

use super::config::Config;
use crate::commands::write_file;

/// Collects what an experiment says.
pub(super) struct Page {
    name: String,
    text: String,
    files: Vec<(String, Vec<u8>)>,
}

impl Page {
    pub(super) fn new(name: &str, config: &Config) -> Self {
        let mut page = Self { name: name.to_owned(), text: format!("# {}\n", config.title), files: Vec::new() };
        page.paragraph(&format!("**The thesis:** {}", config.thesis.trim()));
        if !config.note.is_empty() {
            page.paragraph(config.note.trim());
        }
        page
    }

    pub(super) fn paragraph(&mut self, text: &str) {
        self.text.push('\n');
        self.text.push_str(text);
        self.text.push('\n');
    }

    /// The scale of this repetition, and the command that makes it again.
    pub(super) fn scale(&mut self, scale: &str, judges: bool) {
        self.paragraph(&format!("**Scale here:** {scale}"));
        let options = if judges { " --supernet F --train-data LIST --val-data LIST" } else { "" };
        self.paragraph(&format!("    inas experiment {}{options}", self.name));
    }

    pub(super) fn table(&mut self, table: &super::tables::Table) {
        self.paragraph(table.markdown().trim_end());
    }

    /// A plot below what was said before.
    pub(super) fn plot(&mut self, name: &str, alt: &str, svg: String) {
        let file = if name.is_empty() { format!("{}.svg", self.name) } else { format!("{}-{name}.svg", self.name) };
        self.paragraph(&format!("![{alt}]({file})"));
        self.files.push((file, svg.into_bytes()));
    }

    /// Raw data, linked at the end.
    pub(super) fn data(&mut self, csv: String) {
        let file = format!("{}.csv", self.name);
        self.paragraph(&format!("Raw data: [{file}]({file})."));
        self.files.push((file, csv.into_bytes()));
    }

    pub(super) fn write(self, folder: &Path) -> anyhow::Result<PathBuf> {
        for (name, bytes) in &self.files {
            write_file(&folder.join(name), bytes)?;
        }
        let path = folder.join(format!("{}.md", self.name));
        write_file(&path, self.text.as_bytes())?;
        Ok(path)
    }
}
