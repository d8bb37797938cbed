//! Machines that want in: with good tokens and bad ones, at a voter and at another node.

use std::collections::BTreeMap;

use super::*;
use crate::testing::{CLUSTER, FakePeers, FakeView, House, counts, identity, record_of, sealing_key, worker};
use crate::tokens::{LIFE, Minted};

fn joining(house: &House, id: u64, peers: Arc<FakePeers>) -> Arc<Joining> {
    let nodes: Arc<dyn Nodes> = if id == 1 { house.view.clone() } else { FakeView::of(id) };
    let outside = Outside {
        roster: house.roster.clone(),
        tokens: Tokens::open(house.store.clone(), house.clock.clone()),
        secrets: house.secrets(id),
        quorum: house.quorum.clone(),
        nodes,
        peers,
        clock: house.clock.clone(),
        journal: house.journal(),
    };
    Joining::new(outside, counts())
}

fn ask(minted: &Minted, id: u64, name: &str) -> JoinRequest {
    JoinRequest {
        protocol: PROTOCOL,
        version: "0.1.0".into(),
        token: minted.record.id,
        secret: minted.secret.to_vec(),
        node: NodeId(id),
        name: name.into(),
        replace: None,
        roles: None,
        addresses: vec![([127, 0, 0, 1], id as u16).into()],
        request: request(id),
        sealing_key: sealing_key(id).public(),
        labels: BTreeMap::new(),
    }
}

fn request(id: u64) -> Vec<u8> {
    identity(id, "machine").request().unwrap()
}

fn renewal(id: u64) -> Ask {
    Ask::Renew { request: request(id) }
}

/// Whether the certificate names this node: its id stands in it.
fn names(certificate: &Certificate, id: u64) -> bool {
    let id = NodeId(id).to_string();
    certificate.der.windows(id.len()).any(|window| window == id.as_bytes())
}

async fn token(joining: &Joining, roles: Roles) -> Minted {
    joining.outside.tokens.create(roles, LIFE).await.unwrap()
}

async fn asked(joining: &Arc<Joining>, from: u64, ask: &Ask) -> Result<Answer, Problem> {
    let call = Call {
        topic: Topic::ROSTER,
        lane: Lane::Control,
        head: envelope::seal(ask).into(),
        body: bytes::Bytes::new(),
        within: VOTER_WITHIN,
    };
    let reply = joining.service().serve(NodeId(from), call).await?;
    Ok(envelope::open(&reply.head).unwrap())
}

async fn joined(joining: &Arc<Joining>, ask: JoinRequest) -> Result<JoinAnswer, Problem> {
    match asked(joining, 0, &Ask::Join(ask)).await? {
        Answer::Joined(answer) => Ok(answer),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_lets_one_machine_in_with_its_record_certificate_and_secrets() {
    let house = House::founded().await;
    let voter = joining(&house, 1, FakePeers::of(1));
    house.secrets(1).set("img", &Secret::new(b"salt".to_vec())).await.unwrap();
    let minted = token(&voter, worker()).await;
    let answer = joined(&voter, ask(&minted, 2, "two")).await.unwrap();
    assert_eq!((answer.cluster, answer.node), (CLUSTER, NodeId(2)));
    assert!(names(&answer.certificate, 2));
    assert_eq!(answer.authorities, [house.authority.certificate()]);
    assert_eq!(answer.members.iter().map(|member| member.name.as_str()).collect::<Vec<_>>(), ["one"]);
    assert_eq!(
        house.roster.by_name("two").unwrap(),
        NodeRecord { joined: house.clock.wall(), ..record_of(2, "two", worker(), &sealing_key(2)) }
    );
    assert_eq!(house.secrets(2).get("img").unwrap().expose(), b"salt", "it can serve at once");
    let second = joined(&voter, ask(&minted, 3, "three")).await.unwrap_err();
    assert!(second.detail.contains("has let a node in already"), "{second}");
    assert!(house.roster.by_name("three").is_err());
}

#[tokio::test(start_paused = true)]
async fn a_worker_cannot_open_the_authority_even_with_the_whole_store_and_its_own_key() {
    let house = House::founded().await;
    let voter = joining(&house, 1, FakePeers::of(1));
    let minted = token(&voter, worker()).await;
    joined(&voter, ask(&minted, 2, "two")).await.unwrap();
    house.secrets(1).reseal().await.unwrap();
    let theirs = house.secrets(2);
    assert_eq!(theirs.get(AUTHORITY).err(), Some(SecretError::NotForMe(AUTHORITY.into())));
    assert_eq!(theirs.reseal().await.unwrap().done, [""; 0]);
    assert!(house.secrets(1).get(AUTHORITY).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_did_not_hear_the_answer_may_ask_again() {
    let house = House::founded().await;
    let voter = joining(&house, 1, FakePeers::of(1));
    let minted = token(&voter, Roles::ALL).await;
    let machine = ask(&minted, 2, "two");
    let first = joined(&voter, machine.clone()).await.unwrap();
    let again = joined(&voter, machine.clone()).await.unwrap();
    assert_eq!((again.node, again.members), (first.node, first.members));
    let renamed = JoinRequest { name: "other".into(), ..machine };
    assert!(joined(&voter, renamed).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_spent_token_makes_no_certificate_for_another_key_and_none_after_its_end() {
    let house = House::founded().await;
    let voter = joining(&house, 1, FakePeers::of(1));
    let minted = token(&voter, Roles::ALL).await;
    let machine = ask(&minted, 2, "two");
    joined(&voter, machine.clone()).await.unwrap();
    // Id, name and sealing key stand in every node's roster; the key of the request is the thief's own.
    let thief = JoinRequest { request: request(2), ..machine.clone() };
    let refused = joined(&voter, thief).await.unwrap_err();
    assert!(refused.detail.contains("has let a node in already"), "{refused}");
    house.pass(LIFE).await;
    let late = joined(&voter, machine).await.unwrap_err();
    assert_eq!(late.kind, Kind::Forbidden, "{late}");
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_spends_no_token() {
    let house = House::founded().await;
    let voter = joining(&house, 1, FakePeers::of(1));
    let minted = token(&voter, worker()).await;
    let good = ask(&minted, 2, "two");
    for (what, bad) in [
        ("not proven by its key", JoinRequest { request: request(9), ..good.clone() }),
        ("certificate request is refused", JoinRequest { request: b"forged".to_vec(), ..good.clone() }),
        ("longer than", JoinRequest { request: vec![0; REQUEST_MAX + 1], ..good.clone() }),
        ("does not match", JoinRequest { secret: vec![0; 16], ..good.clone() }),
        ("speaks version", JoinRequest { protocol: PROTOCOL + 2, ..good.clone() }),
        ("allows the roles front,worker", JoinRequest { roles: Some(Roles::ALL), ..good.clone() }),
        ("belongs to a node already", JoinRequest { name: "one".into(), ..good.clone() }),
        ("another node or did once", JoinRequest { node: NodeId(1), request: request(1), ..good.clone() }),
        ("cannot name a node", JoinRequest { name: "a b".into(), ..good.clone() }),
        (
            "there is no node `old`",
            JoinRequest { name: "old".into(), replace: Some("old".into()), ..good.clone() },
        ),
    ] {
        let problem = joined(&voter, bad).await.unwrap_err();
        assert!(problem.detail.contains(what), "{what}: {problem}");
    }
    let newer = JoinRequest { protocol: PROTOCOL + 1, ..good };
    joined(&voter, newer).await.expect("N and N+1 talk");
}

#[tokio::test(start_paused = true)]
async fn a_rebuilt_machine_takes_the_name_of_a_node_that_is_down() {
    let house = House::founded().await;
    let voter = joining(&house, 1, FakePeers::of(1));
    house.roster.add(record_of(2, "two", worker(), &sealing_key(2))).await.unwrap();
    house.view.set(2, NodeState::Suspect);
    let minted = token(&voter, worker()).await;
    let rebuilt = JoinRequest { replace: Some("two".into()), ..ask(&minted, 3, "two") };
    let alive = joined(&voter, rebuilt.clone()).await.unwrap_err();
    assert!(alive.detail.contains("still answers"), "{alive}");
    let renamed = JoinRequest { name: "three".into(), ..rebuilt.clone() };
    assert!(joined(&voter, renamed).await.unwrap_err().detail.contains("must be named so"));
    let itself = JoinRequest { replace: Some("one".into()), name: "one".into(), ..rebuilt.clone() };
    assert!(joined(&voter, itself).await.unwrap_err().detail.contains("still answers"));
    house.view.set(2, NodeState::Down);
    joined(&voter, rebuilt).await.unwrap();
    assert_eq!(house.roster.by_name("two").unwrap().id, NodeId(3));
    assert!(house.roster.get(NodeId(2)).unwrap().unwrap().standing.is_removed());
    let removed_name = token(&voter, worker()).await;
    house.roster.set_standing("two", Standing::Removed { since: Wall(1) }).await.unwrap();
    let again = JoinRequest { replace: Some("two".into()), ..ask(&removed_name, 4, "two") };
    joined(&voter, again).await.expect("a removed one needs no taking over");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_cannot_sign_passes_a_join_on_once_and_a_renewal_never() {
    let house = House::founded().await;
    let voter = joining(&house, 1, FakePeers::of(1));
    house.roster.add(record_of(2, "two", worker(), &sealing_key(2))).await.unwrap();
    let peers = FakePeers::of(2);
    let other = joining(&house, 2, peers.clone());
    let minted = token(&voter, worker()).await;
    // In this test all share one quorum, whose `me` is the voter's.
    house.quorum.status.lock().unwrap().me = NodeId(2);
    let unreachable = joined(&other, ask(&minted, 3, "three")).await.unwrap_err();
    assert!(unreachable.detail.contains("no voter"), "{unreachable}");
    peers.serve(1, voter.service());
    let refused = joined(&other, JoinRequest { secret: vec![1; 16], ..ask(&minted, 3, "three") }).await;
    assert!(refused.unwrap_err().detail.contains("does not match"), "the voter's own words");
    assert_eq!(joined(&other, ask(&minted, 3, "three")).await.unwrap().node, NodeId(3));
    let passed_on = asked(&other, 3, &Ask::Join(ask(&minted, 4, "four"))).await.unwrap_err();
    assert_eq!(passed_on.kind, Kind::Unavailable, "nobody passes it round");
    assert_eq!(asked(&other, 3, &renewal(3)).await.unwrap_err().kind, Kind::Unavailable);
    let renewed = other.renew(request(2)).await.unwrap();
    assert!(names(&renewed.certificate, 2), "the node itself asks a voter");
}

#[tokio::test(start_paused = true)]
async fn a_certificate_is_renewed_for_members_alone() {
    let house = House::founded().await;
    let voter = joining(&house, 1, FakePeers::of(1));
    house.roster.add(record_of(2, "n2", worker(), &sealing_key(2))).await.unwrap();
    let Ok(Answer::Renewed(renewed)) = asked(&voter, 2, &renewal(2)).await else { panic!("not renewed") };
    assert!(names(&renewed.certificate, 2));
    for stranger in [0, 9] {
        assert_eq!(asked(&voter, stranger, &renewal(stranger)).await.unwrap_err().kind, Kind::Forbidden);
    }
    let for_another = asked(&voter, 2, &renewal(1)).await.unwrap_err();
    assert!(for_another.detail.contains("not proven"), "{for_another}");
    house.roster.set_standing("n2", Standing::Removed { since: Wall(1) }).await.unwrap();
    assert!(asked(&voter, 2, &renewal(2)).await.unwrap_err().detail.contains("was removed"));
    assert!(names(&voter.renew(request(1)).await.unwrap().certificate, 1));
}

#[tokio::test(start_paused = true)]
async fn no_more_asks_at_once_than_allowed_and_none_longer() {
    let house = House::founded().await;
    let voter = joining(&house, 1, FakePeers::of(1));
    let places: Vec<_> = (0..ASKS_MAX).map(|_| voter.places.clone().try_acquire_owned().unwrap()).collect();
    assert_eq!(asked(&voter, 1, &renewal(1)).await.unwrap_err().kind, Kind::Overloaded);
    drop(places);
    assert!(asked(&voter, 1, &renewal(1)).await.is_ok());
    let long = Ask::Renew { request: vec![0; ASK_MAX] };
    assert_eq!(asked(&voter, 1, &long).await.unwrap_err().kind, Kind::BadRequest);
}

#[test]
fn a_join_request_is_printed_without_its_secret() {
    let secret = zeroize::Zeroizing::new([0xab; 16]);
    let record = crate::tokens::TokenRecord {
        id: 5,
        hash: [0; 32],
        roles: Roles::ALL,
        created: Wall(0),
        expires: Wall(0),
        uses_left: 1,
        revoked: None,
        used_by: None,
    };
    let shown = format!("{:?}", Ask::Join(ask(&Minted { record, secret }, 2, "two")));
    assert!(shown.contains("`two`") && !shown.contains("171") && !shown.contains("secret"), "{shown}");
}
