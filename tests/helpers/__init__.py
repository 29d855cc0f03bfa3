"""What the tests share: processes, mocks, a raw HTTP client. No test stands here."""
