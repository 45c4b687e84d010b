/**
 * The classification of etcd's errors, and the retry rule.
 */
import { assert, describe, it } from "@effect/vitest"
import { replaced, Status } from "../src/grpc/status.ts"
import type { Delivery } from "../src/grpc/Transport.ts"
import { classify } from "../src/internal/rpc/errors.ts"
import { decide, type RetryPolicy } from "../src/internal/rpc/retry.ts"

const classified = (code: number, details: string, delivery: Delivery = "Sent", messageSize?: number) =>
  classify({ _tag: "GrpcFailure", code, details, delivery, messageSize }, "http://etcd:2379")

const decided = (policy: RetryPolicy, code: number, details: string, delivery: Delivery = "Sent") => {
  const decision = decide(policy, classified(code, details, delivery))
  return decision.action === "Fail" ? decision.reason._tag : decision.action
}

const policies: ReadonlyArray<RetryPolicy> = ["read", "write", "idempotent"]

describe("the retry rule", () => {
  it("an unknown failure may follow an applied request: a write ends as Indeterminate, everything else is retried", () => {
    for (let code = 1; code <= 16; code++) {
      assert.strictEqual(decided("write", code, "an unknown text"), "Indeterminate")
      for (const policy of ["read", "idempotent"] as const) {
        const expected = code === Status.UNAUTHENTICATED
          ? "Unauthenticated"
          : code === Status.PERMISSION_DENIED
          ? "PermissionDenied"
          : "Retry"
        assert.strictEqual(decided(policy, code, "an unknown text"), expected)
        assert.isFalse(classified(code, "an unknown text").notApplied)
      }
    }
  })

  it("a request that was not sent, or that the server states it did not process, is retried", () => {
    for (const policy of policies) {
      for (const delivery of ["NotSent", "NotProcessed"] as const) {
        for (const code of [Status.UNAVAILABLE, Status.DEADLINE_EXCEEDED, Status.CANCELLED]) {
          assert.strictEqual(decided(policy, code, "connect ECONNREFUSED 127.0.0.1:1", delivery), "Retry")
        }
      }
      assert.strictEqual(decided(policy, Status.INTERNAL, "the server reset the stream", "NotProcessed"), "Retry")
    }
    const { notApplied, reason } = classified(Status.UNAVAILABLE, "connect ECONNREFUSED", "NotSent")
    assert.deepStrictEqual([notApplied, reason._tag], [true, "Unavailable"])
  })

  it("a request that can never be sent fails at once", () => {
    for (const policy of policies) {
      assert.strictEqual(decided(policy, Status.INTERNAL, "metadata has an invalid name", "NotSent"), "InvalidRequest")
      assert.strictEqual(decided(policy, Status.RESOURCE_EXHAUSTED, "too much", "NotSent"), "RequestTooLarge")
    }
  })

  it("a server's message cannot mark a sent request as not sent", () => {
    assert.strictEqual(decided("write", Status.UNAVAILABLE, "connect ECONNREFUSED 127.0.0.1:1"), "Indeterminate")
    assert.strictEqual(decided("write", Status.CANCELLED, "the call was cancelled before it was sent"), "Indeterminate")
  })

  it("a rejected token is replaced, also for a write", () => {
    for (const policy of policies) {
      for (const details of ["etcdserver: invalid auth token", "etcdserver: user name is empty"]) {
        assert.strictEqual(decided(policy, Status.UNAUTHENTICATED, details), "RefreshToken")
      }
    }
  })
})

describe("classifying failures", () => {
  it("a request that the server rejected before it could change anything was not applied", () => {
    const rejections = [
      [Status.INVALID_ARGUMENT, "etcdserver: key is not provided", "InvalidRequest"],
      [Status.INVALID_ARGUMENT, "etcdserver: duplicate key given in txn request", "InvalidRequest"],
      [Status.INVALID_ARGUMENT, "etcdserver: too many operations in txn request", "InvalidRequest"],
      [Status.INVALID_ARGUMENT, "etcdserver: request is too large", "RequestTooLarge"],
      [Status.RESOURCE_EXHAUSTED, "grpc: received message larger than max (2097160 vs. 2097152)", "RequestTooLarge"],
      [Status.RESOURCE_EXHAUSTED, "etcdserver: too many requests", "Unavailable"],
      [Status.OUT_OF_RANGE, "etcdserver: mvcc: required revision has been compacted", "Compacted"],
      [Status.OUT_OF_RANGE, "etcdserver: mvcc: required revision is a future revision", "FutureRevision"],
      [Status.OUT_OF_RANGE, "etcdserver: too large lease TTL", "InvalidRequest"],
      [Status.NOT_FOUND, "etcdserver: requested lease not found", "LeaseNotFound"],
      [Status.FAILED_PRECONDITION, "etcdserver: lease already exists", "LeaseExists"],
      [Status.PERMISSION_DENIED, "etcdserver: permission denied", "PermissionDenied"],
      [
        Status.INVALID_ARGUMENT,
        "etcdserver: authentication failed, invalid user ID or password",
        "Unauthenticated"
      ],
      [Status.UNAUTHENTICATED, "etcdserver: invalid auth token", "Unauthenticated"],
      [Status.INVALID_ARGUMENT, "etcdserver: revision of auth store is old", "Unauthenticated"],
      [Status.INVALID_ARGUMENT, "etcdserver: user name is empty", "Unauthenticated"],
      [Status.UNAVAILABLE, "etcdserver: no leader", "Unavailable"],
      [Status.UNIMPLEMENTED, "unknown service etcdserverpb.KV", "Unavailable"],
      [Status.DATA_LOSS, "etcdserver: corrupt cluster", "Unavailable"]
    ] as const
    for (const [code, details, tag] of rejections) {
      const { notApplied, reason } = classified(code, details)
      assert.strictEqual(reason._tag, tag, details)
      assert.strictEqual(reason.outcome, "NotApplied")
      assert.isTrue(notApplied)
    }
  })

  it("a store that is full may have applied the write that filled it", () => {
    const { notApplied, reason } = classified(Status.RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded")
    assert.strictEqual(reason._tag, "QuotaExceeded")
    assert.strictEqual(reason.outcome, "Unknown")
    assert.isFalse(notApplied)
    assert.strictEqual(
      decided("write", Status.RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded"),
      "QuotaExceeded"
    )
  })

  it("an endpoint is suspended only for its own failures", () => {
    const suspended = ["the server closed the connection", "etcdserver: no leader", "etcdserver: server stopped"]
    for (const details of suspended) assert.isTrue(classified(Status.UNAVAILABLE, details).suspendEndpoint)
    const others = ["etcdserver: leader changed", "etcdserver: too many requests", replaced]
    for (const details of others) assert.isFalse(classified(Status.UNAVAILABLE, details).suspendEndpoint)
    assert.isFalse(classified(Status.DEADLINE_EXCEEDED, "no response within 500 ms").suspendEndpoint)
    // The client's own limit, not a failure of the endpoint.
    assert.isFalse(classified(Status.RESOURCE_EXHAUSTED, "too large", "Sent", 30_000_000).suspendEndpoint)
  })

  it("a member that says that it cannot serve is left by a new connection; a broken connection is replaced anyway", () => {
    const left = ["etcdserver: no leader", "etcdserver: request timed out", "etcdserver: rpc not supported for learner"]
    for (const details of left) assert.isTrue(classified(Status.UNAVAILABLE, details).reconnect, details)
    const others = ["the server closed the connection", "etcdserver: leader changed", "etcdserver: too many requests"]
    for (const details of others) assert.isFalse(classified(Status.UNAVAILABLE, details).reconnect, details)
    assert.isFalse(classified(Status.UNAVAILABLE, "etcdserver: no leader", "NotProcessed").reconnect)
  })

  it("A failure to connect comes with a hint if the scheme may be wrong", () => {
    const unavailable = (endpoint: string, details: string): string =>
      classify({ _tag: "GrpcFailure", code: Status.UNAVAILABLE, details, delivery: "NotSent" }, endpoint).reason.message
    assert.match(
      unavailable("http://etcd:2379", "10.0.0.1:2379: the server closed the connection before its SETTINGS"),
      /want https\?$/
    )
    assert.match(unavailable("https://etcd:2379", "ssl3_get_record:wrong version number"), /want http\?$/)
    assert.notMatch(unavailable("https://etcd:2379", "certificate has expired"), /want/)
  })
})
