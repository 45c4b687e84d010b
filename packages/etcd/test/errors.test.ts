/**
 * What etcd's and grpc-js's words mean.
 */
import { assert, describe, it } from "@effect/vitest"
import { status } from "@grpc/grpc-js"
import { connectError, judge, type Kind, silent } from "../src/internal/rpc/errors.ts"

const verdict = (code: status, details: string, kind: Kind = "write", left = true) =>
  judge({ code, details, left }, kind, "http://etcd:2379")

describe("judging failures", () => {
  it("whatever is not known may have been carried out: a write is not repeated, all else is", () => {
    for (let code = 1; code <= 16; code++) {
      const write = verdict(code, "something nobody has heard of")
      assert.strictEqual(write.reason._tag, "Indeterminate")
      assert.strictEqual(write.action, "fail")
      for (const kind of ["read", "idempotent"] as const) {
        const other = verdict(code, "something nobody has heard of", kind)
        const isFinal = code === status.UNAUTHENTICATED || code === status.PERMISSION_DENIED
        assert.strictEqual(other.action, isFinal ? "fail" : "retry")
        assert.isFalse(other.refused)
      }
    }
  })

  it("what never left is repeated, whatever it was", () => {
    for (const kind of ["read", "write", "idempotent"] as const) {
      for (const code of [status.UNAVAILABLE, status.INTERNAL, status.DEADLINE_EXCEEDED, status.CANCELLED]) {
        const { action, reason, refused } = verdict(code, "No connection established", kind, false)
        assert.deepStrictEqual([action, reason._tag, refused], ["retry", "Unavailable", true])
      }
    }
  })

  it("a request that cannot be serialized is the caller's fault", () => {
    const details = "Request message serialization failure: .x: object expected"
    assert.strictEqual(verdict(status.INTERNAL, details, "write", false).reason._tag, "InvalidRequest")
  })

  it("what is refused before it can change anything says so", () => {
    const refusals = [
      [status.INVALID_ARGUMENT, "etcdserver: key is not provided", "InvalidRequest"],
      [status.INVALID_ARGUMENT, "etcdserver: duplicate key given in txn request", "InvalidRequest"],
      [status.INVALID_ARGUMENT, "etcdserver: too many operations in txn request", "InvalidRequest"],
      [status.INVALID_ARGUMENT, "etcdserver: request is too large", "RequestTooLarge"],
      [status.RESOURCE_EXHAUSTED, "grpc: received message larger than max (2097160 vs. 2097152)", "RequestTooLarge"],
      [status.RESOURCE_EXHAUSTED, "etcdserver: too many requests", "Unavailable"],
      [status.OUT_OF_RANGE, "etcdserver: mvcc: required revision has been compacted", "Compacted"],
      [status.OUT_OF_RANGE, "etcdserver: mvcc: required revision is a future revision", "FutureRevision"],
      [status.OUT_OF_RANGE, "etcdserver: too large lease TTL", "InvalidRequest"],
      [status.NOT_FOUND, "etcdserver: requested lease not found", "LeaseNotFound"],
      [status.FAILED_PRECONDITION, "etcdserver: lease already exists", "LeaseExists"],
      [status.PERMISSION_DENIED, "etcdserver: permission denied", "PermissionDenied"],
      [
        status.INVALID_ARGUMENT,
        "etcdserver: authentication failed, invalid user ID or password",
        "Unauthenticated"
      ],
      [status.UNAUTHENTICATED, "etcdserver: invalid auth token", "Unauthenticated"],
      [status.INVALID_ARGUMENT, "etcdserver: revision of auth store is old", "Unauthenticated"],
      [status.INVALID_ARGUMENT, "etcdserver: user name is empty", "Unauthenticated"],
      [status.UNAVAILABLE, "etcdserver: no leader", "Unavailable"],
      [status.UNAVAILABLE, "Stream refused by server", "Unavailable"],
      [status.UNIMPLEMENTED, "unknown service etcdserverpb.KV", "Unavailable"],
      [status.DATA_LOSS, "etcdserver: corrupt cluster", "Unavailable"]
    ] as const
    for (const [code, details, tag] of refusals) {
      const { reason, refused } = verdict(code, details)
      assert.strictEqual(reason._tag, tag, details)
      assert.strictEqual(reason.outcome, "NotApplied")
      assert.isTrue(refused)
    }
  })

  it("a store that is full may have carried out the write that filled it", () => {
    const { reason, refused } = verdict(status.RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded")
    assert.strictEqual(reason._tag, "QuotaExceeded")
    assert.strictEqual(reason.outcome, "Unknown")
    assert.isFalse(refused)
  })

  it("an endpoint is blamed for what is its own trouble", () => {
    const blamed = ["Connection dropped", "etcdserver: no leader", "etcdserver: server stopped", "read ECONNRESET"]
    const notBlamed = [
      "etcdserver: leader changed",
      "etcdserver: too many requests",
      // Our own limit for messages, and a connection that was replaced by one that works.
      "Received message larger than max (30000000 vs 25165824)",
      silent
    ]
    for (const details of blamed) assert.isTrue(verdict(status.UNAVAILABLE, details, "read").blame)
    for (const details of notBlamed) assert.isFalse(verdict(status.UNAVAILABLE, details, "read").blame)
    assert.isFalse(verdict(status.DEADLINE_EXCEEDED, "no answer within 500 ms", "read").blame)
  })
})

describe("what kept a connection from being made", () => {
  it("is told without grpc-js's frame around it", () => {
    const wrap = (text: string): string => `No connection established. Last error: ${text}. Resolution note: `
    assert.strictEqual(
      connectError(wrap("Error: connect ECONNREFUSED 127.0.0.1:1")),
      "connect ECONNREFUSED 127.0.0.1:1"
    )
    assert.strictEqual(connectError(wrap("Failed to connect (2026-11-22T07:19:44.123Z)")), "Failed to connect")
    assert.strictEqual(
      connectError("Name resolution failed for target dns:x:1"),
      "Name resolution failed for target dns:x:1"
    )
  })

  it("comes with a hint where the scheme may be wrong", () => {
    const unavailable = (endpoint: string, text: string): string =>
      judge(
        { code: status.UNAVAILABLE, details: `No connection established. Last error: ${text}`, left: false },
        "read",
        endpoint
      )
        .reason.message
    assert.match(unavailable("http://etcd:2379", "Failed to connect (2026-11-22T07:19:44.123Z)"), /want https\?$/)
    assert.match(unavailable("https://etcd:2379", "Error: ssl3_get_record:wrong version number"), /want http\?$/)
    assert.notMatch(unavailable("https://etcd:2379", "Error: certificate has expired"), /want/)
  })
})
