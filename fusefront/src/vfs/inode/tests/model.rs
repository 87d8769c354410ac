//! The table beside a naive one, under random sequences of what the kernel and programs do.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// What the kernel or a program does; numbers are taken modulo what there is.
#[derive(Clone, Debug)]
enum Act {
    LookUp {
        parent: usize,
        name: u8,
        file: u8,
        kind: FileKind,
    },
    /// A name that the host could not look at.
    LookUpUnknown {
        parent: usize,
        name: u8,
    },
    Forget {
        node: usize,
        lookups: u8,
    },
    Pin {
        node: usize,
    },
    Unpin {
        node: usize,
    },
}

fn act() -> impl Strategy<Value = Act> {
    let kind = prop_oneof![3 => Just(FileKind::Directory), 1 => Just(FileKind::Regular)];
    let parent = prop_oneof![2 => Just(0usize), 5 => any::<usize>()];
    prop_oneof![
        8 => (parent, any::<u8>(), 0..60u8, kind)
            .prop_map(|(parent, name, file, kind)| Act::LookUp { parent, name, file, kind }),
        1 => (any::<usize>(), any::<u8>()).prop_map(|(parent, name)| Act::LookUpUnknown { parent, name }),
        4 => (any::<usize>(), 1..4u8).prop_map(|(node, lookups)| Act::Forget { node, lookups }),
        1 => any::<usize>().prop_map(|node| Act::Pin { node }),
        1 => any::<usize>().prop_map(|node| Act::Unpin { node }),
    ]
}

/// Files of two file systems whose numbers clash, some of them reserved.
fn some_file(number: u8) -> FileId {
    FileId { fs: u64::from(number % 2), inode: u64::from(number / 3), birth: u64::from(number % 3) }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Naive {
    id: Option<FileId>,
    kind: FileKind,
    parent: NodeId,
    name: Option<Name>,
    lookups: u64,
    handles: u64,
    generation: u64,
}

#[derive(Debug)]
struct Model(BTreeMap<NodeId, Naive>);

impl Model {
    fn new() -> Model {
        let root = Naive {
            id: Some(file(2)),
            kind: FileKind::Directory,
            parent: NodeId::ROOT,
            name: None,
            lookups: 1,
            handles: 0,
            generation: 0,
        };
        Model(BTreeMap::from([(NodeId::ROOT, root)]))
    }

    fn nth(&self, at: usize) -> NodeId {
        *self.0.keys().nth(at % self.0.len()).unwrap()
    }

    fn is_at_or_above(&self, node: NodeId, mut below: NodeId) -> bool {
        while below != node && below != NodeId::ROOT {
            below = self.0[&below].parent;
        }
        below == node
    }

    /// Takes a lookup in that `table` answered, or refused.
    fn look_up(&mut self, table: &mut NodeTable, parent: NodeId, name: &Name, found: Found) {
        let answer = table.look_up(parent, name, found);
        let mut known = self.0.iter().filter(|(node, it)| {
            **node != NodeId::ROOT && found.id.is_some() && (it.id, it.kind) == (found.id, found.kind)
        });
        let known = known.next().map(|(node, _)| *node);
        let is_dir = self.0[&parent].kind == FileKind::Directory;
        if !is_dir || known.is_some_and(|node| self.is_at_or_above(node, parent)) {
            assert_eq!(answer, Err(VfsError::Stale));
            return;
        }
        let answer = answer.unwrap();
        if known.is_some() {
            assert_eq!(Some(answer.node), known);
        } else {
            let own = found.id.map(|id| NodeId(id.inode)).filter(|own| is_own_number(own.0));
            let own = own.filter(|own| !self.0.contains_key(own));
            assert!(own.map_or(answer.node.0 >= SYNTHETIC_FIRST, |own| own == answer.node));
        }
        let made = Naive {
            id: found.id,
            kind: found.kind,
            parent,
            name: Some(name.clone()),
            lookups: 0,
            handles: 0,
            generation: answer.generation,
        };
        let is_new = known.is_none();
        assert!(!is_new || !self.0.contains_key(&answer.node), "a number in use");
        let entry = self.0.entry(answer.node).or_insert(made);
        assert_eq!(entry.generation, answer.generation);
        (entry.parent, entry.name) = (parent, Some(name.clone()));
        entry.lookups += 1;
        self.reap();
    }

    fn reap(&mut self) {
        loop {
            let parents: Vec<NodeId> = self.0.values().map(|it| it.parent).collect();
            let before = self.0.len();
            self.0.retain(|node, it| {
                *node == NodeId::ROOT || it.lookups > 0 || it.handles > 0 || parents.contains(node)
            });
            if self.0.len() == before {
                return;
            }
        }
    }

    fn path(&self, node: NodeId) -> String {
        let (mut path, mut at) = (String::new(), node);
        while at != NodeId::ROOT {
            path = format!("/{}{path}", self.0[&at].name.as_ref().unwrap());
            at = self.0[&at].parent;
        }
        if path.is_empty() { "/".to_owned() } else { path }
    }

    fn check(&self, table: &NodeTable) {
        assert_eq!(table.count(), self.0.len());
        for (node, it) in &self.0 {
            assert_eq!(table.file(*node), Ok((it.id, it.kind)));
            assert_eq!(table.parent(*node), Ok(it.parent));
            assert_eq!(table.name(*node), it.name);
            assert_eq!(table.generation(*node), Ok(it.generation));
            assert_eq!(path(table, *node), self.path(*node));
            let is_of_this = |number: u64| {
                let other = self.0.get(&NodeId(number));
                other.is_some_and(|other| other.id == it.id)
            };
            let number = it.id.filter(|_| *node != NodeId::ROOT).and_then(|id| table.inode(SHARE, &id));
            assert!(it.id.is_none() || *node == NodeId::ROOT || number.is_some_and(is_of_this));
        }
    }
}

proptest! {
    #[test]
    fn the_table_does_as_a_naive_one(acts in prop::collection::vec(act(), 1..200)) {
        let (mut table, mut model) = (table(), Model::new());
        for act in acts {
            match act {
                Act::LookUp { parent, name: text, file, kind } => {
                    let found = found(some_file(file), kind);
                    model.look_up(&mut table, model.nth(parent), &name(&format!("n{text}")), found);
                }
                Act::LookUpUnknown { parent, name: text } => {
                    let found = Found { id: None, kind: FileKind::Regular };
                    model.look_up(&mut table, model.nth(parent), &name(&format!("n{text}")), found);
                }
                Act::Forget { node, lookups } => {
                    let node = model.nth(node);
                    table.forget(node, u64::from(lookups));
                    let it = model.0.get_mut(&node).unwrap();
                    it.lookups = it.lookups.saturating_sub(u64::from(lookups));
                    model.reap();
                }
                Act::Pin { node } => {
                    let node = model.nth(node);
                    table.pin(node).unwrap();
                    model.0.get_mut(&node).unwrap().handles += 1;
                }
                Act::Unpin { node } => {
                    let node = model.nth(node);
                    let it = model.0.get_mut(&node).unwrap();
                    if it.handles > 0 {
                        it.handles -= 1;
                        table.unpin(node);
                        model.reap();
                    }
                }
            }
            model.check(&table);
        }
        let all: Vec<(NodeId, Naive)> = model.0.clone().into_iter().collect();
        for (node, it) in all.iter().filter(|(node, _)| *node != NodeId::ROOT) {
            (0..it.handles).for_each(|_| table.unpin(*node));
            table.forget(*node, it.lookups);
        }
        prop_assert_eq!((table.count(), files(&table), table.realms.len()), (1, 0, 1));
    }
}
