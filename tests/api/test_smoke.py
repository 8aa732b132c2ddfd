from tests.serving import Service


async def test_a_stored_record_is_read_back(service: Service) -> None:
    """What was acknowledged is in the customer's history."""
    ingest, customer = await service.key("ingest"), await service.key("customer", "acme")
    status, answer = await service.post(ingest, service.record())
    assert (status, answer["accepted"]) == (200, 1)
    status, page = await service.call("GET", "/v1/accounts/acme/history", customer)
    assert status == 200
    assert [r["id"] for r in page["data"]] == ["m1"]
