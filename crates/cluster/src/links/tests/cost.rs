//! What a call costs: prints CPU time, asserts nothing of it.

use super::*;

/// CPU nanoseconds so far of the threads named `name`.
fn cpu_ns(name: &str) -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let of_task = |path: std::path::PathBuf| -> Option<u64> {
        let comm = std::fs::read_to_string(path.join("comm")).ok()?;
        let stat = std::fs::read_to_string(path.join("schedstat")).ok()?;
        (comm.trim() == name).then(|| stat.split(' ').next()?.parse().ok()).flatten()
    };
    tasks.filter_map(|task| of_task(task.ok()?.path())).sum()
}

#[test]
fn the_cost_of_a_call_is_printed() {
    let name = "links-cost";
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name(name)
        .enable_all()
        .build()
        .unwrap();
    let work = async {
        let clock = TestClock::shared();
        let (_, nodes) = nodes(2, &clock).await;
        let (links, peer) = (nodes[0].links.clone(), nodes[1].id());
        let body = Bytes::from(vec![5; 20_000]);
        let kinds = [
            ("20 kB each way", "echo", body),
            ("20 kB back", "hit", Bytes::new()),
            ("no body", "echo", Bytes::new()),
        ];
        for (what, head, body) in kinds {
            let calls = 2000;
            let ask = || ask(&links, peer, Call { body: body.clone(), ..call(head, Lane::Small) });
            ask().await.unwrap();
            let before = cpu_ns(name);
            for _ in 0..calls {
                ask().await.unwrap();
            }
            let each = (cpu_ns(name) - before) as f64 / f64::from(calls) / 1000.0;
            println!("{what}: {each:.1} us of CPU a call, both nodes together");
        }
    };
    runtime.block_on(async { tokio::spawn(work).await.unwrap() });
    runtime.shutdown_background();
}
