//! A mount whose host answers anything: wrong kinds, sizes, names, identities, loops, late or never.
//!
//! The input is a list of operations, as the kernel would send them, and a list of answers. Replies are well-formed, since
//! `wire_reply` fuzzes their bytes; nothing else of them is true.

mod host;
mod mount;

use std::cell::OnceCell;

use tokio::runtime::Runtime;
use transport::{Client, Identity, Server, testing::Link};
use uring::{Pool, PoolConfig};

use crate::{input::Input, network};
use host::{Liar, Script};
use mount::{Kernel, Root};

/// What lives from one input to the next: a session costs a handshake, which takes longer than an input.
struct Rig {
    runtime: Runtime,
    script: Script,
    identity: Identity,
    client: Client,
    pool: Pool,
    _server: Server,
    _link: Link,
}

thread_local! {
    // Leaked: tasks of its runtime may not be dropped while the thread's own variables go.
    static RIG: OnceCell<&'static Rig> = const { OnceCell::new() };
}

impl Rig {
    fn new() -> Rig {
        let runtime = network::runtime();
        let (script, link, identity) = (Script::default(), network::link(9_000), network::identity());
        let (server, client) = runtime.block_on(async {
            let server = network::serve(&link, &identity, Liar::new(script.clone()));
            (server, network::connect(&link, &identity).await)
        });
        let pool = Pool::new(PoolConfig::with_capacity(16 << 20)).expect("16 MiB of addresses");
        Rig { runtime, script, identity, client, pool, _server: server, _link: link }
    }
}

/// What is mounted; the number of bytes of operations; the operations; the answers.
pub(super) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let root = if input.u8().is_multiple_of(4) { Root::Folder } else { Root::Share };
    let operations = input.short();
    RIG.with(|rig| {
        let rig = rig.get_or_init(|| Box::leak(Box::new(Rig::new())));
        rig.script.load(input.rest());
        rig.runtime.block_on(async {
            let kernel = Kernel::new(rig.client.clone(), rig.pool.clone(), rig.identity.public_key(), root);
            kernel.run(Input::new(operations)).await;
            mount::come_home(&rig.pool).await;
        });
    });
}
