//! Letting go of what the kernel knows and nobody uses, when that is more than a mount keeps.

use wire::Name;

use super::{Vfs, inode::NodeId};

impl Vfs {
    /// Directories that the kernel should forget, as entries of their parents, while it knows more than `kept` files.
    ///
    /// Those that were looked into since they were met last, and those above an open file or directory, are not among
    /// them. One whose only use is as some program's working directory may be: it is found again by its path.
    pub fn prune(&self, kept: usize) -> Vec<(NodeId, Name)> {
        let mut found = Vec::new();
        let (mut wanted, steps) = {
            let mut state = self.0.state.lock();
            let more = state.nodes.count().saturating_sub(kept);
            if more == 0 {
                return found;
            }
            let state = &mut *state;
            for node in state.handles.nodes() {
                state.nodes.keep(node);
            }
            // Some room, so that this is not for every few files.
            (more + kept / 8, state.nodes.prune_steps())
        };
        for _ in 0..steps {
            // The lock is free between steps: whoever waits for it goes first.
            let step = self.0.state.lock().nodes.prune_candidates(wanted);
            wanted = wanted.saturating_sub(step.below);
            found.extend(step.named);
            if wanted == 0 {
                break;
            }
        }
        found
    }
}
