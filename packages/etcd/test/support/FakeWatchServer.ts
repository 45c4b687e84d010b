/**
 * etcd's side of watch streams, as values in memory: for orders of messages that a real server gives only by luck.
 *
 * It keeps what etcd promises (a watch's events in order, each revision whole but for fragments, creates answered in order)
 * and, within that, does its worst: batches and fragments of any size, answers that wait while other things overtake them,
 * notifications that lie as those of id -1 did before etcd 3.4.25, revisions that were sent before come again, and what was
 * deleted in the compact revision itself is kept from a watch that starts there, as before 3.5.18. (Those servers also keep
 * it from a watch that is just about to be sent that revision, of which no client can know.)
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import type * as WatchState from "../../src/internal/watch/watchState.ts"
import * as watchWire from "../../src/internal/watch/watchWire.ts"
import { type Header, noHeader } from "../../src/internal/wire/header.ts"

export interface Change {
  readonly key: string
  readonly isDelete: boolean
}

export interface Revision {
  readonly revision: number
  readonly changes: ReadonlyArray<Change>
}

interface Watcher {
  readonly id: number
  readonly range: KeyRange.KeyRange
  readonly only: "Put" | "Delete" | undefined
  readonly fragment: boolean
  readonly start: number
  /** The first revision that it was not yet sent. */
  next: number
  isSynced: boolean
}

/** How random choices are made: a number below `n`. */
export type Choose = (n: number) => number

/** What the client asked for, in the words of the wire. */
export interface Ask {
  readonly range: KeyRange.KeyRange
  readonly only: "Put" | "Delete" | undefined
}

type Create = Extract<watchWire.Request, { readonly _tag: "Create" }>

export class FakeWatchServer {
  revision = 1
  compactRevision = 0
  readonly log: Array<Revision> = []
  readonly streams = new Set<FakeStream>()
  readonly choose: Choose
  /** Whether it ignores the ids that are requested and counts from 0, as `etcd grpc-proxy` does. */
  readonly choosesIds: boolean

  constructor(choose: Choose) {
    this.choose = choose
    this.choosesIds = choose(3) === 2
  }

  write(changes: ReadonlyArray<Change>): void {
    this.revision++
    this.log.push({ revision: this.revision, changes })
    for (const stream of this.streams) stream.notify()
  }

  compact(revision: number): void {
    if (revision > this.compactRevision && revision <= this.revision) this.compactRevision = revision
  }

  /** What history still has for the watcher; of the compact revision itself, deletes are gone where it starts there. */
  history(start: number, next: number): ReadonlyArray<Revision> {
    return this.log.filter((entry) => entry.revision >= next).map((entry) =>
      entry.revision === this.compactRevision && start === this.compactRevision
        ? { ...entry, changes: entry.changes.filter((change) => !change.isDelete) }
        : entry
    )
  }

  open(): FakeStream {
    const stream = new FakeStream(this)
    this.streams.add(stream)
    return stream
  }
}

export class FakeStream {
  readonly server: FakeWatchServer
  /** On their way to the client. */
  readonly sent: Array<watchWire.Response> = []
  readonly #watchers = new Map<number, Watcher>()
  #chosenIds = 0
  /** Whether the server is one that is asked for progress, because its answers do not overtake events. */
  readonly answersInOrder: boolean
  /** Reasons to refuse the next creates for. */
  readonly refusals: Array<string> = []
  /** Whether every create asked for fragments. */
  readonly fragments: Array<boolean> = []

  constructor(server: FakeWatchServer) {
    this.server = server
    this.answersInOrder = server.choose(2) === 0
  }

  get watcherCount(): number {
    return this.#watchers.size
  }

  readonly receive = (request: watchWire.Request): void => {
    if (request._tag === "Create") this.#create(request)
    else if (request._tag === "Cancel") this.#cancel(request.id)
    else this.#progressOfAll()
  }

  #create(request: Create): void {
    const refusal = this.refusals.shift()
    if (refusal !== undefined) {
      this.#send({ watchId: -1, created: true, canceled: true, cancelReason: refusal })
      return
    }
    const { filter } = request
    const id = this.server.choosesIds ? this.#chosenIds++ : request.id
    if (this.#watchers.has(id)) throw new Error("an id was used twice")
    const start = Number(request.from)
    this.#watchers.set(id, {
      id,
      range: rangeOf(request.bounds),
      only: filter === undefined ? undefined : filter === watchWire.Filter.noPut ? "Delete" : "Put",
      fragment: request.fragment,
      start,
      next: start === 0 ? this.server.revision + 1 : start,
      isSynced: start === 0 || start > this.server.revision
    })
    this.fragments.push(request.fragment)
    this.#send({ watchId: id, created: true })
  }

  #cancel(id: number): void {
    if (this.#watchers.delete(id)) this.#send({ watchId: id, canceled: true })
  }

  /** Synced watchers get what was just written. */
  notify(): void {
    const last = this.server.log[this.server.log.length - 1]!
    for (const watcher of this.#watchers.values()) {
      if (!watcher.isSynced || last.revision < watcher.next) continue
      watcher.next = last.revision + 1
      this.#sendEvents(watcher, [last])
    }
  }

  /** What the server does by itself every 100 ms: unsynced watchers get a batch of history. */
  sync(): void {
    for (const watcher of Array.from(this.#watchers.values())) {
      if (watcher.isSynced) continue
      if (watcher.next < this.server.compactRevision) {
        // It stays until it is cancelled.
        watcher.isSynced = true
        watcher.next = Number.POSITIVE_INFINITY
        this.#send({
          watchId: watcher.id,
          canceled: true,
          compactRevision: this.server.compactRevision,
          header: noHeader
        })
        continue
      }
      const matching = this.server.history(watcher.start, watcher.next).filter((entry) =>
        select(watcher, entry).length > 0
      )
      const batch = matching.slice(0, 1 + this.server.choose(3))
      watcher.isSynced = batch.length === matching.length
      watcher.next = watcher.isSynced ? this.server.revision + 1 : batch[batch.length - 1]!.revision + 1
      this.#sendEvents(watcher, batch)
    }
  }

  /** Periodic notifications, to synced watchers only, in order with their events. */
  progress(): void {
    for (const watcher of this.#watchers.values()) {
      if (watcher.isSynced && watcher.next <= this.server.revision + 1) this.#send({ watchId: watcher.id })
    }
  }

  /** Answers at once, in order with the events, if all watches are synced; else never. */
  #progressOfAll(): void {
    if (this.server.choosesIds) throw new Error("a proxy was asked for progress")
    const watchers = [...this.#watchers.values()]
    const isCompacted = watchers.some(({ next }) => next === Number.POSITIVE_INFINITY)
    if (watchers.length > 0 && !isCompacted && watchers.every(({ isSynced }) => isSynced)) this.#send({ watchId: -1 })
  }

  /** A notification for all that overtakes events, as old servers answer requests that nobody makes. */
  lie(): void {
    if (this.answersInOrder) return
    this.sent.unshift({ ...empty, watchId: -1, header: headerAt(this.server.revision) })
  }

  /** Revisions that a watcher has had come again, as whole revisions. */
  repeat(): void {
    for (const watcher of this.#watchers.values()) {
      const old = this.server.log.filter((entry) => entry.revision < watcher.next).slice(-2)
      // The watcher's start is not known any more, so that this may be what was before it.
      if (watcher.isSynced && old.length > 0 && watcher.next !== Number.POSITIVE_INFINITY) {
        this.#sendEvents(watcher, old)
      }
    }
  }

  #sendEvents(watcher: Watcher, entries: ReadonlyArray<Revision>): void {
    const events = entries.flatMap((entry) => select(watcher, entry))
    let rest = events
    while (watcher.fragment && rest.length > 1 && this.server.choose(3) > 0) {
      const size = 1 + this.server.choose(rest.length - 1)
      this.#send({ watchId: watcher.id, events: rest.slice(0, size), fragment: true })
      rest = rest.slice(size)
    }
    if (rest.length > 0) this.#send({ watchId: watcher.id, events: rest })
  }

  #send(response: Partial<watchWire.Response>): void {
    const hasEvents = response.events !== undefined
    this.sent.push({ ...empty, header: headerAt(this.server.revision), ...response, hasEvents })
  }
}

const headerAt = (revision: number): Header => ({ clusterId: 1n, memberId: 1n, revision: BigInt(revision) })

const empty: watchWire.Response = {
  header: noHeader,
  watchId: 0,
  created: false,
  canceled: false,
  compactRevision: 0,
  cancelReason: "",
  fragment: false,
  hasEvents: false,
  decodeEvents: () => true,
  events: []
}

/** The events of a revision that are asked for. */
export const selected = (ask: Ask, entry: Revision): ReadonlyArray<Change> =>
  entry.changes.filter((change) =>
    KeyRange.contains(ask.range, change.key) &&
    (ask.only === undefined || (ask.only === "Delete") === change.isDelete)
  )

const select = (ask: Ask, entry: Revision): ReadonlyArray<watchWire.WireEvent> =>
  selected(ask, entry).map((change) => eventOf(change, entry.revision))

const eventOf = ({ isDelete, key }: Change, modRevision: number): watchWire.WireEvent => {
  const message = Buffer.from(key)
  const end = message.length
  return {
    isDelete,
    kv: {
      message,
      keyStart: 0,
      keyEnd: end,
      valueStart: 0,
      valueEnd: isDelete ? 0 : end,
      createRevision: isDelete ? 0 : modRevision,
      modRevision,
      version: isDelete ? 0 : 1,
      lease: 0n
    },
    previous: undefined
  }
}

const rangeOf = (bounds: Create["bounds"]): KeyRange.KeyRange => {
  const key = bounds.key.toString()
  const end = bounds.range_end
  if (end === undefined) return KeyRange.key(key)
  return end.equals(Buffer.from([0])) ? KeyRange.from(key === "\0" ? "" : key) : KeyRange.halfOpen(key, end.toString())
}

/** The states that the machine names, for the coverage that a test wants. */
export type StateTag = WatchState.State["_tag"]
