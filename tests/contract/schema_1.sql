-- Version 1 of the schema, as it was released, with the words of each engine left open. Never change it.
CREATE TABLE token_limit_api_key (
    public_id VARCHAR(16) NOT NULL,
    digest VARCHAR(64) NOT NULL,
    account {tenant} NOT NULL,
    name VARCHAR(255) NOT NULL,
    tenants JSON NOT NULL,
    permissions JSON NOT NULL,
    created_at {double} NOT NULL,
    revoked_at {double},
    PRIMARY KEY (public_id)
){options};
CREATE INDEX ix_token_limit_api_key_account ON token_limit_api_key (account);
CREATE TABLE token_limit_counter (
    tenant_id {tenant} NOT NULL,
    limit_id BIGINT NOT NULL,
    window_start BIGINT NOT NULL,
    window_end BIGINT NOT NULL,
    settled BIGINT NOT NULL,
    held BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, limit_id, window_start)
){options};
CREATE TABLE token_limit_delivery (
    id {id},
    destination VARCHAR(255) NOT NULL,
    tenant_id {tenant} NOT NULL,
    event_id VARCHAR(80) NOT NULL,
    claimed_by VARCHAR(32),
    claimed_until {double} NOT NULL,
    parked BOOLEAN NOT NULL
){options};
CREATE INDEX token_limit_delivery_due ON token_limit_delivery (destination, parked, id);
CREATE TABLE token_limit_hold (
    call_id VARCHAR(64) NOT NULL,
    tenant_id {tenant} NOT NULL,
    amount BIGINT,
    created_at {double} NOT NULL,
    expires_at {double} NOT NULL,
    origin VARCHAR(16) NOT NULL,
    state VARCHAR(16) NOT NULL,
    PRIMARY KEY (call_id)
){options};
CREATE INDEX token_limit_hold_due ON token_limit_hold (state, expires_at);
CREATE INDEX token_limit_hold_tenant ON token_limit_hold (tenant_id, state);
CREATE TABLE token_limit_hold_item (
    call_id VARCHAR(64) NOT NULL,
    limit_id BIGINT NOT NULL,
    window_start BIGINT NOT NULL,
    unit VARCHAR(16) NOT NULL,
    amount BIGINT NOT NULL,
    PRIMARY KEY (call_id, limit_id, window_start)
){options};
CREATE INDEX ix_token_limit_hold_item_limit_id ON token_limit_hold_item (limit_id);
CREATE TABLE token_limit_ledger (
    id {id},
    tenant_id {tenant} NOT NULL,
    event_id VARCHAR(80) NOT NULL,
    kind VARCHAR(16) NOT NULL,
    corrects VARCHAR(80),
    timestamp {double} NOT NULL,
    input_tokens BIGINT NOT NULL,
    output_tokens BIGINT NOT NULL,
    total_tokens BIGINT NOT NULL,
    cached_tokens BIGINT NOT NULL,
    cache_creation_tokens BIGINT,
    reasoning_tokens BIGINT,
    cost_nano BIGINT,
    stream BOOLEAN NOT NULL,
    duration_ms {double},
    provider VARCHAR(64),
    model VARCHAR(255),
    endpoint VARCHAR(64),
    price_version VARCHAR(64),
    service_tier VARCHAR(64),
    {user} VARCHAR(255),
    feature VARCHAR(255),
    session_id VARCHAR(255),
    request_id VARCHAR(255),
    error VARCHAR(255),
    details JSON NOT NULL,
    CONSTRAINT token_limit_ledger_event UNIQUE (tenant_id, event_id)
){options};
CREATE INDEX token_limit_ledger_tenant_time ON token_limit_ledger (tenant_id, timestamp);
CREATE INDEX token_limit_ledger_time ON token_limit_ledger (timestamp);
CREATE TABLE token_limit_limit (
    id {id},
    tenant_id {tenant} NOT NULL,
    frequency VARCHAR(16) NOT NULL,
    filter VARCHAR(255) NOT NULL,
    unit VARCHAR(16) NOT NULL,
    amount BIGINT NOT NULL,
    mode VARCHAR(16) NOT NULL,
    effective_from {double} NOT NULL,
    effective_until {double},
    CONSTRAINT token_limit_limit_identity UNIQUE (tenant_id, frequency, filter, effective_from)
){options};
CREATE INDEX ix_token_limit_limit_tenant_id ON token_limit_limit (tenant_id);
CREATE TABLE token_limit_limit_history (
    id {id},
    at {double} NOT NULL,
    actor VARCHAR(255) NOT NULL,
    kind VARCHAR(16) NOT NULL,
    tenant_id {tenant} NOT NULL,
    frequency VARCHAR(16) NOT NULL,
    filter VARCHAR(255) NOT NULL,
    old_amount BIGINT,
    old_mode VARCHAR(16),
    new_amount BIGINT,
    new_mode VARCHAR(16),
    effective_from {double}
){options};
CREATE INDEX token_limit_history_at ON token_limit_limit_history (at);
CREATE INDEX token_limit_history_tenant_at ON token_limit_limit_history (tenant_id, at);
CREATE TABLE token_limit_rollup (
    tenant_id {tenant} NOT NULL,
    day INTEGER NOT NULL,
    provider VARCHAR(64) NOT NULL,
    model VARCHAR(255) NOT NULL,
    calls BIGINT NOT NULL,
    input_tokens BIGINT NOT NULL,
    output_tokens BIGINT NOT NULL,
    cost_nano BIGINT NOT NULL,
    unpriced BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, day, provider, model)
){options};
CREATE TABLE token_limit_tenant (
    id {tenant} NOT NULL,
    name VARCHAR(255) NOT NULL,
    first_seen {double} NOT NULL,
    PRIMARY KEY (id)
){options};
