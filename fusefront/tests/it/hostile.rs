//! A host may be hostile too: whatever it answers, a mount gives an error or something bounded, and goes on.

pub(crate) mod host;
mod kernel;
mod vfs;

use std::{future::Future, sync::mpsc};

use transport::Lane;

use crate::rig::PATIENCE;

fn wait<T: Send + 'static>(lane: &Lane, work: impl Future<Output = T> + Send + 'static) -> T {
    let (send, receive) = mpsc::channel();
    lane.handle().spawn(async move { send.send(work.await) });
    receive.recv_timeout(PATIENCE).expect("the work ends")
}
