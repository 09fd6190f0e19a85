-- Times are milliseconds since the epoch. Never edited after release: what changes later is a migration of its own.

CREATE TABLE revisions (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    parent     INTEGER REFERENCES revisions(id),
    created_at INTEGER NOT NULL,
    author     TEXT NOT NULL,
    origin     TEXT NOT NULL CHECK (origin IN ('candidate', 'hot-reload', 'applier')),
    message    TEXT NOT NULL,
    -- Sources: file name -> text, as JSON.
    sources    TEXT NOT NULL,
    -- Of the compiled plan; NULL while it has problems.
    digest     TEXT,
    -- The last generation it was installed as, and what became of it.
    generation INTEGER,
    outcome    TEXT NOT NULL CHECK (outcome IN ('waiting', 'dismissed', 'trial', 'confirmed', 'went-back', 'failed')),
    outcome_at INTEGER NOT NULL
);
CREATE INDEX revisions_digest ON revisions(digest);
CREATE INDEX revisions_outcome ON revisions(outcome);

-- What is being worked on; exactly one. Its version is what editors must name, so that nobody overwrites unseen.
CREATE TABLE candidate (
    one        INTEGER PRIMARY KEY CHECK (one = 1),
    version    INTEGER NOT NULL,
    base       INTEGER REFERENCES revisions(id),
    sources    TEXT NOT NULL,
    author     TEXT NOT NULL,
    changed_at INTEGER NOT NULL,
    -- Whether it holds anything that its base does not.
    dirty      INTEGER NOT NULL
);

CREATE TABLE users (
    name                TEXT PRIMARY KEY,
    role                TEXT NOT NULL CHECK (role IN ('admin', 'operator', 'viewer', 'auditor')),
    -- PHC string, Argon2id.
    password            TEXT NOT NULL,
    disabled            INTEGER NOT NULL DEFAULT 0,
    created_at          INTEGER NOT NULL,
    password_changed_at INTEGER NOT NULL,
    -- Tokens that were issued before are no longer good.
    signed_out_at       INTEGER NOT NULL DEFAULT 0,
    last_login_at       INTEGER
) WITHOUT ROWID;

CREATE TABLE sessions (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    -- SHA-256 of the secret in the cookie.
    hash       TEXT NOT NULL UNIQUE,
    user       TEXT NOT NULL REFERENCES users(name) ON DELETE CASCADE,
    address    TEXT,
    agent      TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    seen_at    INTEGER NOT NULL
);
CREATE INDEX sessions_user ON sessions(user);

CREATE TABLE api_keys (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    -- The part that may be shown, and by which a key is found.
    prefix     TEXT NOT NULL UNIQUE,
    hash       TEXT NOT NULL,
    user       TEXT NOT NULL REFERENCES users(name) ON DELETE CASCADE,
    name       TEXT NOT NULL,
    -- A key may do less than its owner, never more.
    role       TEXT NOT NULL CHECK (role IN ('admin', 'operator', 'viewer', 'auditor')),
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    used_at    INTEGER
);
CREATE INDEX api_keys_user ON api_keys(user);

CREATE TABLE jwt_keys (
    kid        TEXT PRIMARY KEY,
    secret     BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    -- From then on it signs no more but is still good for what it has signed.
    retired_at INTEGER
) WITHOUT ROWID;

CREATE TABLE setup_code (
    one        INTEGER PRIMARY KEY CHECK (one = 1),
    hash       TEXT NOT NULL,
    created_at INTEGER NOT NULL
);

CREATE TABLE login_failures (
    -- `user name@address`, `*@address`, `name@*`
    who      TEXT PRIMARY KEY,
    failures INTEGER NOT NULL,
    last_at  INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE audit (
    number  INTEGER PRIMARY KEY,
    at      INTEGER NOT NULL,
    user    TEXT NOT NULL,
    address TEXT,
    action  TEXT NOT NULL,
    subject TEXT NOT NULL,
    before  TEXT,
    after   TEXT,
    detail  TEXT NOT NULL,
    -- SHA-256 over the previous entry's hash and this entry's canonical bytes.
    hash    TEXT NOT NULL
);
CREATE INDEX audit_user ON audit(user, number);
CREATE INDEX audit_action ON audit(action, number);

-- The Merkle root of the entries from first to last.
CREATE TABLE audit_checkpoints (
    first INTEGER NOT NULL,
    last  INTEGER PRIMARY KEY,
    root  TEXT NOT NULL,
    at    INTEGER NOT NULL
);
