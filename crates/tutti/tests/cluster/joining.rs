//! Machines join with one pasted line, or are told why not and what to do.

use std::time::{Duration, Instant};

use crate::cluster::{Cluster, SAMPLES};
use crate::node::{Node, eventually};

/// The figure is 5 s on a machine that does nothing else; two cores that build as well get more.
const SERVING_WITHIN: Duration = Duration::from_secs(15);
const PHOTO: &str = "/image/unsafe/rs:fit:80:80/plain/local:///photo01.jpg@webp";

/// Has `machine` join with `token`, which must be refused with all of `words`.
#[track_caller]
fn refused(machine: &mut Node, token: &str, words: &[&str]) {
    machine.spawn(Some(token));
    let said = machine.serves().expect_err("it was let in");
    for word in words {
        assert!(said.contains(word), "{word} is missing:\n{said}");
    }
    assert!(!said.contains(token), "a token is a secret until it is used:\n{said}");
}

fn token_in(made: &serde_json::Value) -> &str {
    made["token"].as_str().expect("a token")
}

#[test]
fn a_machine_joins_with_one_pasted_line_and_others_are_told_the_way_out() {
    let mut cluster = Cluster::of_samples(1);
    // The shortest life that a token may have; it is long over when it is shown at the end.
    let expired = cluster.nodes[0].json(&["token", "create", "--expires", "10s"]);
    let used = cluster.token(&[]);

    let mut two = cluster.machine("two", 1, &["--originals", SAMPLES]);
    let begun = Instant::now();
    two.start(Some(&used));
    two.image(PHOTO);
    let took = begun.elapsed();
    println!("a machine that joined served {took:?} after it was started (figure: 5 s)");
    assert!(took < SERVING_WITHIN, "{took:?}");
    let mine = two.sees("two").expect("it knows itself");
    assert_eq!((mine["is_me"].as_bool(), mine["state"].as_str()), (Some(true), Some("up")));
    cluster.nodes.push(two);
    cluster.settled();

    let mut other = cluster.machine("three", 2, &["--originals", SAMPLES]);
    refused(&mut other, &used, &["has let a node in already", "`tutti token create`"]);
    let revoked = cluster.nodes[0].json(&["token", "create"]);
    // On the other node: tokens are the cluster's.
    cluster.nodes[1].done(&["token", "revoke", revoked["id"].as_str().expect("an id")]);
    refused(&mut other, token_in(&revoked), &["was revoked", "`tutti token create`"]);
    refused(&mut other, &cluster.token(&[])[..20], &["is not whole", "paste it again"]);
    let mut namesake = cluster.machine("two", 3, &[]);
    let unused = cluster.token(&[]);
    refused(&mut namesake, &unused, &["`two` belongs to a node already", "`--name`", "`--replace two`"]);
    // A refusal does not use a token up.
    namesake.name = "four".to_owned();
    namesake.start(Some(&unused));
    // A machine that was rebuilt takes its old name over.
    namesake.kill();
    eventually("its death is seen", || {
        let states: Vec<_> = cluster.nodes.iter().filter_map(|node| node.state_of("four")).collect();
        states.iter().all(|state| state == "down").then_some(())
    });
    let mut rebuilt = cluster.machine("four", 4, &["--originals", SAMPLES, "--replace", "four"]);
    rebuilt.start(Some(&cluster.token(&[])));
    rebuilt.image(PHOTO);

    let id = expired["id"].as_str().expect("an id");
    eventually("the token expires", || {
        let tokens = cluster.nodes[0].json(&["token", "list"]);
        let token = tokens.as_array()?.iter().find(|token| token["id"] == id)?.clone();
        (token["state"] == "expired").then_some(())
    });
    refused(&mut other, token_in(&expired), &["expired", "`tutti token create`"]);
}

#[test]
fn a_machine_that_ran_alone_joins_when_it_may_put_its_state_aside_and_another_clusters_token_is_no_use() {
    let cluster = Cluster::of_samples(1);
    let mut alone = cluster.machine("alone", 1, &["--originals", SAMPLES]);
    alone.start(None);
    let foreign = alone.json(&["token", "create", "--address", &format!("{}:8400", cluster.nodes[0].host)]);
    alone.done(&["config", "set", "tenants.main.only_presets", "true"]);
    alone.terminate();

    let mut blank = cluster.machine("blank", 2, &["--originals", SAMPLES]);
    refused(&mut blank, token_in(&foreign), &["another cluster"]);

    let token = cluster.token(&[]);
    refused(
        &mut alone,
        &token,
        &["has a cluster of its own", "`--replace-state`", "caches and folders stay"],
    );
    alone.words.push("--replace-state".to_owned());
    alone.start(Some(&token));
    alone.image(PHOTO);
    eventually("it has the document of the cluster", || {
        let seen = alone.tutti(&["config", "get", "tenants.main.only_presets"]);
        (!seen.out.contains("true")).then_some(())
    });
    assert_eq!(cluster.nodes[0].state_of("alone").as_deref(), Some("up"));
}
