//! The page for people.

use crate::house::{head, house, over_tcp, status_of};

#[tokio::test]
async fn the_page_shows_nodes_alerts_and_events_and_allows_no_other_script() {
    let house = house().await;
    house.console.happen("node two joined");
    let page = over_tcp(house.admin, &head("GET", "/", "localhost", 0)).await;
    assert_eq!(status_of(&page), 200);
    for words in
        ["41 %", "folder photos differs", "one voter, one learner", "node two joined", "127.0.0.10:8080"]
    {
        assert!(page.contains(words), "{words}: {page}");
    }
    assert!(page.contains("content-security-policy: default-src 'none'"), "{page}");
    assert!(!page.contains("script-src 'unsafe-inline'") && !page.contains("http://"), "{page}");
}
