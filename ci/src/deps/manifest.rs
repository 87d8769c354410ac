//! The dependencies a `Cargo.toml` names: as much TOML as manifests of this workspace use.

/// What was read of a manifest.
#[derive(Debug, Default)]
pub(super) struct Manifest {
    pub(super) dependencies: Vec<Dependency>,
}

/// One dependency, at the line (from 1) that names it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Dependency {
    pub(super) name: String,
    /// The value of `package = ".."`, where the name is not the package's own.
    pub(super) package: Option<String>,
    pub(super) section: Section,
    pub(super) line: usize,
}

/// Build dependencies count as normal ones: they are on the way to the product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Section {
    Normal,
    Dev,
}

/// What the lines under a table's header mean.
enum Table {
    /// `[dependencies]`: each line is a dependency.
    List(Section),
    /// `[dependencies.x]`: the lines belong to the last dependency.
    One,
    Other,
}

impl Manifest {
    pub(super) fn parse(text: &str) -> Self {
        let mut manifest = Self::default();
        let mut table = Table::Other;
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Some(header) = line.strip_prefix('[') {
                table = manifest.enter(header, index + 1);
                continue;
            }
            let Some((key, value)) = line.split_once('=') else { continue };
            match table {
                Table::List(section) => {
                    // `wire.workspace = true` names `wire`.
                    let name = key.split('.').next().unwrap_or(key).trim().trim_matches('"').to_owned();
                    let package = inline_package(value);
                    manifest.dependencies.push(Dependency { name, package, section, line: index + 1 });
                }
                Table::One if key.trim() == "package" => {
                    if let Some(last) = manifest.dependencies.last_mut() {
                        last.package = quoted(value);
                    }
                }
                Table::One | Table::Other => {}
            }
        }
        manifest
    }

    /// Reads a header: `dependencies`, `dependencies.x`, `target.'cfg(..)'.dev-dependencies` and the like.
    fn enter(&mut self, header: &str, line: usize) -> Table {
        let header = header.split(']').next().unwrap_or(header);
        for (word, section) in [
            ("dev-dependencies", Section::Dev),
            ("build-dependencies", Section::Normal),
            ("dependencies", Section::Normal),
        ] {
            if header.split('.').next_back() == Some(word) && !header.starts_with("workspace") {
                return Table::List(section);
            }
            if let Some((before, name)) = header.rsplit_once('.')
                && before.split('.').next_back() == Some(word)
                && !before.starts_with("workspace")
            {
                let name = name.trim_matches('"').to_owned();
                self.dependencies.push(Dependency { name, package: None, section, line });
                return Table::One;
            }
        }
        Table::Other
    }
}

/// `x` of `{ package = "x", .. }`.
fn inline_package(value: &str) -> Option<String> {
    let (_, after) = value.split_once("package")?;
    after.trim_start().strip_prefix('=').and_then(quoted)
}

fn quoted(value: &str) -> Option<String> {
    value.split('"').nth(1).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_to_write_a_dependency_is_read() {
        let text = "[package]\nname = \"x\"\n\n[dependencies]\n# why\na.workspace = true\nb = \"1\"\n\
                    c = { package = \"d\", version = \"1\" }\n[dev-dependencies.e]\npackage = \"f\"\n\
                    [build-dependencies]\ng = \"1\"\n[features]\nh = []\n";
        let read: Vec<(String, Option<String>, Section, usize)> = Manifest::parse(text)
            .dependencies
            .into_iter()
            .map(|d| (d.name, d.package, d.section, d.line))
            .collect();
        assert_eq!(
            read,
            [
                ("a".into(), None, Section::Normal, 6),
                ("b".into(), None, Section::Normal, 7),
                ("c".into(), Some("d".into()), Section::Normal, 8),
                ("e".into(), Some("f".into()), Section::Dev, 9),
                ("g".into(), None, Section::Normal, 12),
            ]
        );
    }
}
