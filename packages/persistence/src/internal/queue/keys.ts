/**
 * The keys of a queue, and what their values say.
 *
 * An item that is neither completed nor failed has exactly one place: it is ready, due at a time, or claimed by a worker.
 * Every step of its life is one transaction that deletes its place and puts the next one, on the condition that the place
 * was not touched.
 *
 * ```text
 * NAME/item/ID                     the element, or the record of a completed one. Its existence is the de-duplication
 * NAME/head/due/TIME/PLACE/ID      an item that may be taken from a time on, with its attempts so far and its size
 * NAME/head/ready/ID               an item that may be taken now, in the order of create revisions
 * NAME/claim/WORKER/ID             an item that a worker processes; the create revision is the fencing token
 * NAME/worker/WORKER/alive         exists as long as the worker's session
 * NAME/worker/WORKER/owner         exists until the last claim of the worker is gone
 * NAME/done/TIME/ID                a completed item whose id was chosen by the application
 * NAME/spent/TIME/ID               a completed item with a generated id
 * NAME/failed/TIME/ID              an item that failed for good, with its attempts and the last failure
 * ```
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as segment from "../segment.ts"

export interface Keys {
  readonly name: string
  /** The prefix of all keys of the queue. */
  readonly root: string
}

export const make = (prefix: string, name: string): Keys => ({ name, root: `${prefix}${segment.of(name)}/` })

/** The kinds of ended items, which are indexed by the time at which they ended. */
export type Ended = "done" | "spent" | "failed"

export const item = ({ root }: Keys, id: string): string => `${root}item/${segment.of(id)}`

export const ready = ({ root }: Keys, id: string): string => `${root}head/ready/${segment.of(id)}`

export const due = ({ root }: Keys, time: number, place: bigint, id: string): string =>
  `${root}head/due/${timeText(time)}/${place.toString(16).padStart(16, "0")}/${segment.of(id)}`

export const claim = ({ root }: Keys, worker: string, id: string): string => `${root}claim/${worker}/${segment.of(id)}`

export const alive = ({ root }: Keys, worker: string): string => `${root}worker/${worker}/alive`

export const owner = ({ root }: Keys, worker: string): string => `${root}worker/${worker}/owner`

export const ended = ({ root }: Keys, kind: Ended, time: number, id: string): string =>
  `${root}${kind}/${timeText(time)}/${segment.of(id)}`

export const headOf = ({ root }: Keys): KeyRange.KeyRange => KeyRange.prefix(`${root}head/`)
export const readyOf = ({ root }: Keys): KeyRange.KeyRange => KeyRange.prefix(`${root}head/ready/`)
export const dueOf = ({ root }: Keys): KeyRange.KeyRange => KeyRange.prefix(`${root}head/due/`)
export const workersOf = ({ root }: Keys): KeyRange.KeyRange => KeyRange.prefix(`${root}worker/`)
export const claimsOf = ({ root }: Keys, worker: string): KeyRange.KeyRange =>
  KeyRange.prefix(`${root}claim/${worker}/`)
export const endedOf = ({ root }: Keys, kind: Ended): KeyRange.KeyRange => KeyRange.prefix(`${root}${kind}/`)

/** The last time that a key can have, in milliseconds: the year 10889. Later ones are the same to a queue. */
const maxTime = 2 ** 48 - 1

const timeText = (millis: number): string =>
  Math.min(maxTime, Math.max(0, Math.ceil(millis))).toString(16).padStart(12, "0")

/** The time in the key of a due item, in milliseconds. */
export const timeOfDue = ({ root }: Keys, key: string): number =>
  Number.parseInt(key.slice(`${root}head/due/`.length).split("/", 1)[0]!, 16)

/** The time in the key of an ended item, in milliseconds. */
export const timeOfEnded = ({ root }: Keys, kind: Ended, key: string): number =>
  Number.parseInt(key.slice(`${root}${kind}/`.length).split("/", 1)[0]!, 16)

/** The id of the item that a key of any kind is about: the last segment. */
export const idOf = (key: string): string => segment.nameOf(key.slice(key.lastIndexOf("/") + 1))

/** The worker and the kind of a key under `worker/`. */
export const workerOf = ({ root }: Keys, key: string): { readonly worker: string; readonly isOwner: boolean } => {
  const [worker = "", kind] = key.slice(`${root}worker/`.length).split("/")
  return { worker, isOwner: kind === "owner" }
}

/** What the key of a place says. */
export interface Marker {
  /** The attempts so far. In a claim, the current one counts. */
  readonly attempts: number
  /** The size of the item, so that batches can be limited. */
  readonly size: number
  /** The place in the order of the queue: the create revision of the first place. `0n` in that place itself. */
  readonly place: bigint
}

export const encodeMarker = ({ attempts, place, size }: Marker): string => `${attempts} ${size} ${place}`

/** `none` if another program has written the value. */
export const decodeMarker = (text: string): Option.Option<Marker> => {
  const match = /^(\d+) (\d+) (\d+)$/.exec(text)
  return match === null
    ? Option.none()
    : Option.some({ attempts: Number(match[1]), size: Number(match[2]), place: BigInt(match[3]!) })
}

/** The value of an item that was not completed. */
export const encodeItem = (element: unknown, isCustomId: boolean): string =>
  JSON.stringify(isCustomId ? { element } : { element, auto: true })

/** What is left of an item that was completed by the claim with that token. */
export const encodeDone = (time: number, token: bigint): string => JSON.stringify({ done: time, claim: `${token}` })

/** The element of an item; `undefined` if another program has written the value. */
export const decodeItem = (text: string): { readonly element: unknown; readonly isCustomId: boolean } => {
  const value = Option.getOrUndefined(parse(text))
  return {
    element: Predicate.hasProperty(value, "element") ? value.element : undefined,
    isCustomId: !Predicate.hasProperty(value, "auto")
  }
}

const parse = Option.liftThrowable((text: string): unknown => JSON.parse(text))
