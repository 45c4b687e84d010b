/**
 * The store under test, as the harness sees it and breaks it: without the library under test.
 *
 * `etcd/` and `postgres/` have one each. What the two have in common is here; which faults a server can have is its own.
 */
import type * as Kv from "@effect-kv/core/Kv"
import type { KvError } from "@effect-kv/core/KvError"
import type { Changes, TcpProxy } from "@effect-kv/test-suite/verification"
import * as Data from "effect/Data"
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Outcome } from "./AppliedFault.ts"
import type { Backend, Fault } from "./Fault.ts"
import type { Notes } from "./Notes.ts"
import type { Application } from "./work/Worker.ts"

/** One change of the store, with its value as text. */
export interface Change extends Changes.Change {
  /** Empty for a delete. */
  readonly value: string
}

/** All changes from one revision on. */
export interface Recording {
  /** Waits until `revision` is recorded, then returns the changes up to and including it, in order. */
  readonly upTo: (revision: bigint) => Effect.Effect<ReadonlyArray<Change>, Error>
}

/** A key with a lease. */
export interface Owned {
  readonly createRevision: bigint
  readonly lease: bigint
  readonly value: string
}

/** The links of a client, one to each server. */
export type Links = ReadonlyArray<TcpProxy.TcpProxy>

/** The links of all clients, and what is known of the history of the store. */
export interface Field {
  /** By the index of the client. */
  readonly links: ReadonlyArray<Links>
  /** The revision of the last compaction by the harness, `0n` if there was none. */
  compactedAt: bigint
}

/** What a client is opened with. */
export interface ClientOptions {
  readonly name: string
  readonly links: Links
  readonly batching: boolean
}

/** The client of one application. */
export interface Opened {
  readonly kv: Kv.Kv
  /** For work with tables of its own, on a backend whose database may have them. */
  readonly application?: Application | undefined
}

export interface Store {
  readonly backend: Backend
  /** The backend with its version. */
  readonly title: string
  /** Where the links lead. */
  readonly endpoints: ReadonlyArray<string>
  readonly openClient: (options: ClientOptions) => Effect.Effect<Opened, KvError, Scope.Scope>
  readonly revision: Effect.Effect<bigint, Error>
  /** Records all changes from a revision on, until the scope closes, across failures of the servers. */
  readonly record: (first: bigint) => Effect.Effect<Recording, Error, Scope.Scope>
  readonly keys: (prefix: string) => Effect.Effect<ReadonlyArray<string>, Error>
  readonly leases: Effect.Effect<ReadonlyArray<bigint>, Error>
  readonly revoke: (lease: bigint) => Effect.Effect<void, Error>
  /** The key with this prefix that was created first, if there is one. */
  readonly oldest: (prefix: string) => Effect.Effect<Owned | undefined, Error>
  /** Compacts the history before `revision` at once, so that a client that was cut off cannot resume a watch behind it. */
  readonly compact: (revision: bigint) => Effect.Effect<void, Error>
  /** The last compacted revision. The clients of some backends compact, too. */
  readonly compacted: Effect.Effect<bigint, Error>
  /** What serves the watches: watches on the servers of etcd, connections that listen on Postgres. */
  readonly watches: Effect.Effect<number, Error>
  /** How many of them the long-lived watches of that many clients may need. */
  readonly watchesOf: (clients: number) => number
  /** What else clients may leave behind on the servers, as messages. */
  readonly left: Effect.Effect<ReadonlyArray<string>, Error>
  /** Rules of this backend that the round broke, as messages: what its own kinds of work must have kept. */
  readonly broken: (prefix: string, notes: Notes) => Effect.Effect<ReadonlyArray<string>, Error>
  /** Requests, one for each server, that take as long as a renewal does, or fail at once if it does not run. */
  readonly probes: ReadonlyArray<Effect.Effect<void>>
  /** Applies a fault of the servers. */
  readonly breakServers: (
    fault: Fault,
    field: Field,
    history: Recording
  ) => Effect.Effect<Outcome | void, Error>
  /** Locks whose holders are evicted. */
  readonly evictable: (prefix: string) => ReadonlyArray<string>
  /** Whether data from a client contains a request: not only what begins or keeps a connection. */
  readonly isRequest: (chunk: Uint8Array) => boolean
}

/** What the harness needs of the store failed. */
export class StoreError extends Data.TaggedError("StoreError")<{
  readonly message: string
  readonly cause?: unknown
}> {}
