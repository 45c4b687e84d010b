/**
 * The server side of watch streams, as values in memory, for message orders that a real server produces only by chance.
 *
 * It keeps etcd's guarantees: events of a watch are in order, revisions are whole except for fragments, and creates get
 * responses in order. Within these it is adversarial. Batches and fragments have any size, responses are delayed and
 * overtaken, and revisions are repeated. Notifications with id -1 can be wrong, as before etcd 3.4.25. A watch that
 * starts at the compact revision misses that revision's deletes, as before 3.5.18. (Those servers also hide them from a
 * watch that is about to receive the revision, which no client can detect.)
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
  /** The first revision that was not sent yet. */
  next: number
  isSynced: boolean
}

/** The source of random choices: a number below `n`. */
export type Choose = (n: number) => number

/** The events that a watch requests. */
export interface Selection {
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

  /**
   * The remaining history for a watcher. A watcher that starts at the compact revision misses that revision's deletes.
   */
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
  /** The responses in flight to the client. */
  readonly sent: Array<watchWire.Response> = []
  readonly #watchers = new Map<number, Watcher>()
  #chosenIds = 0
  /** Whether the client requests progress from this server. Its progress responses do not overtake events. */
  readonly respondsInOrder: boolean
  /** The reasons with which the server rejects the next creates. */
  readonly rejections: Array<string> = []
  /** Whether each create requested fragments. */
  readonly fragments: Array<boolean> = []

  constructor(server: FakeWatchServer) {
    this.server = server
    this.respondsInOrder = server.choose(2) === 0
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
    const rejection = this.rejections.shift()
    if (rejection !== undefined) {
      this.#send({ watchId: -1, created: true, canceled: true, cancelReason: rejection })
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

  /** Sends the last revision to synced watchers. */
  notify(): void {
    const last = this.server.log[this.server.log.length - 1]!
    for (const watcher of this.#watchers.values()) {
      if (!watcher.isSynced || last.revision < watcher.next) continue
      watcher.next = last.revision + 1
      this.#sendEvents(watcher, [last])
    }
  }

  /** Sends a batch of history to unsynced watchers, as etcd does every 100 ms. */
  sync(): void {
    for (const watcher of Array.from(this.#watchers.values())) {
      if (watcher.isSynced) continue
      if (watcher.next < this.server.compactRevision) {
        // The watcher exists until it is cancelled.
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

  /** Sends periodic notifications to synced watchers only, in order with their events. */
  progress(): void {
    for (const watcher of this.#watchers.values()) {
      if (watcher.isSynced && watcher.next <= this.server.revision + 1) this.#send({ watchId: watcher.id })
    }
  }

  /** Sends a progress response in order with the events if all watches are synced, and otherwise never. */
  #progressOfAll(): void {
    if (this.server.choosesIds) throw new Error("a proxy received a progress request")
    const watchers = [...this.#watchers.values()]
    const isCompacted = watchers.some(({ next }) => next === Number.POSITIVE_INFINITY)
    if (watchers.length > 0 && !isCompacted && watchers.every(({ isSynced }) => isSynced)) this.#send({ watchId: -1 })
  }

  /** Sends a notification for all watches that overtakes events, as old servers do. */
  overtakingProgress(): void {
    if (this.respondsInOrder) return
    this.sent.unshift({ ...empty, watchId: -1, header: headerAt(this.server.revision) })
  }

  /** Sends revisions again that a watcher already has, as whole revisions. */
  repeat(): void {
    for (const watcher of this.#watchers.values()) {
      const old = this.server.log.filter((entry) => entry.revision < watcher.next).slice(-2)
      // The watcher's start is no longer known, so these may be revisions before it.
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

/** The events of a revision that a watch selects. */
export const selected = (selection: Selection, entry: Revision): ReadonlyArray<Change> =>
  entry.changes.filter((change) =>
    KeyRange.contains(selection.range, change.key) &&
    (selection.only === undefined || (selection.only === "Delete") === change.isDelete)
  )

const select = (selection: Selection, entry: Revision): ReadonlyArray<watchWire.WireEvent> =>
  selected(selection, entry).map((change) => eventOf(change, BigInt(entry.revision)))

const eventOf = ({ isDelete, key }: Change, modRevision: bigint): watchWire.WireEvent => {
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
      createRevision: isDelete ? 0n : modRevision,
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

/** The names of the machine's states, for tests of coverage. */
export type StateTag = WatchState.State["_tag"]
