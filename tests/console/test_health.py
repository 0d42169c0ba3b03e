from typing import Any

import httpx

from caspers_lib.lakebase import COMPLAINTS


def test_a_process_that_lives_is_healthy_without_any_database(business: Any, serve: Any) -> None:
    business.addresses = dict.fromkeys(business.addresses)
    with serve(business.parts()) as server:
        response = httpx.get(f"{server.url}/healthz", trust_env=False)
    assert response.status_code == 200
    assert response.json() == {"status": "ok"}


def test_it_is_ready_once_both_databases_answer(client: httpx.Client) -> None:
    response = client.get("/readyz")
    assert response.status_code == 200
    document = response.json()
    assert document["status"] == "ready"
    assert document["databases"] == {"caspers": "ok", "caspers_complaints": "ok"}


def test_missing_tables_are_named_and_do_not_keep_it_from_being_ready(
    business: Any, client: httpx.Client
) -> None:
    business.drop(COMPLAINTS)
    response = client.get("/readyz")
    assert response.status_code == 200
    missing = response.json()["missing_tables"]
    assert "complaints.pg_complaint_responses" in missing
    assert "recommender.pg_recommendations" not in missing


def test_a_database_that_nobody_made_yet_is_waited_for(business: Any, client: httpx.Client) -> None:
    home = business.addresses["caspers_complaints"]
    business.addresses["caspers_complaints"] = home.replace("/caspers_complaints", "/nobodys")
    for _ in range(2):  # the second one is told of the first one's failure
        response = client.get("/readyz")
        assert response.status_code == 503
        assert response.json()["databases"]["caspers_complaints"] == "not there"
    page = client.get("/complaints/list").text
    assert "Waiting for database caspers_complaints." in page
    assert "does not answer" not in page


def test_it_is_not_ready_while_a_database_is_away_and_says_no_secret(
    business: Any, client: httpx.Client
) -> None:
    business.addresses["caspers"] = None
    business.addresses["caspers_complaints"] = "host=/nowhere user=secret-user dbname=x"
    response = client.get("/readyz")
    assert response.status_code == 503
    assert response.json()["databases"] == {
        "caspers": "not started",
        "caspers_complaints": "does not answer",
    }
    assert "secret-user" not in response.text
