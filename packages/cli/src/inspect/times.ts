/**
 * Times as people read them, and since when a contender is in its queue.
 *
 * A store has revisions and no times. So a time is known if the contender's description contains one, as that of
 * `effect-kv lock` does, or if its arrival was observed.
 */
import type * as Inventory from "@effect-kv/core/Inventory"

/** A moment in milliseconds since 1970. With `isAtLeast`, it happened then or earlier. */
export interface Since {
  readonly millis: number
  readonly isAtLeast: boolean
}

/** A duration in its two largest units: `12s`, `2m 13s`, `3h 5m`, `2d 4h`. */
export const duration = (millis: number): string => {
  const seconds = Math.max(0, Math.floor(millis / 1000))
  const [unit, next] = seconds < 60 ? [0, undefined] : seconds < 3600 ? [1, 0] : seconds < 86_400 ? [2, 1] : [3, 2]
  const parts = [
    seconds % 60,
    Math.floor(seconds / 60) % 60,
    Math.floor(seconds / 3600) % 24,
    Math.floor(seconds / 86_400)
  ]
  return next === undefined ? `${seconds}s` : `${parts[unit!]}${units[unit!]} ${parts[next]}${units[next]}`
}

const units = ["s", "m", "h", "d"]

/** How long ago it was: `2m 13s`, or `>2m 13s`; `-` if it is not known. */
export const ago = (since: Since | undefined, now: number): string =>
  since === undefined ? "-" : `${since.isAtLeast ? ">" : ""}${duration(now - since.millis)}`

/** The first time in ISO 8601 in a text, with a time zone. */
export const timeIn = (text: string): Since | undefined => {
  const [found] = /\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)/.exec(text) ?? []
  const millis = found === undefined ? NaN : Date.parse(found)
  return Number.isNaN(millis) ? undefined : { millis, isAtLeast: false }
}

/** Since when contenders hold or wait, as far as a watching command has observed it. */
export class Observed {
  readonly #seen = new Map<string, { readonly isHolder: boolean; readonly since: Since }>()
  #isFirst = true

  /** Notes the contenders that are there now. */
  note(queues: ReadonlyArray<Inventory.Queue>, now: number): void {
    const present = new Set<string>()
    for (const contender of queues.flatMap(({ contenders }) => contenders)) {
      const id = idOf(contender)
      present.add(id)
      const known = this.#seen.get(id)
      if (known?.isHolder === contender.isHolder) continue
      this.#seen.set(id, {
        isHolder: contender.isHolder,
        since: { millis: now, isAtLeast: known === undefined && this.#isFirst }
      })
    }
    for (const id of this.#seen.keys()) if (!present.has(id)) this.#seen.delete(id)
    this.#isFirst = false
  }

  /** Since when it holds or waits; for one that was there from the beginning, since when it is in the queue. */
  since(contender: Inventory.Contender): Since | undefined {
    const seen = this.#seen.get(idOf(contender))?.since
    return seen !== undefined && !seen.isAtLeast ? seen : timeIn(contender.description) ?? seen
  }
}

const idOf = ({ key, token }: Inventory.Contender): string => `${token} ${key}`
