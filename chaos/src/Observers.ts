/**
 * Observers of elections, compared with the store's history. Each began before the first campaign, and saw every leader and
 * every value, once and in order, except those that it missed because of a compaction.
 */
import type { History } from "@effect-kv/test-suite/verification"
import type { SeenLeader } from "./Notes.ts"
import type { Change } from "./Store.ts"

type Changes = ReadonlyArray<Change>

/** The leader after each change of the leader or of its value, by the history of the store. None at first. */
export const leadersOf = (changes: Changes, election: string): ReadonlyArray<SeenLeader> => {
  const leaders: Array<SeenLeader> = [none]
  const candidates = new Map<string, Change>()
  const isCandidate = ({ key }: Change) =>
    key.startsWith(`${election}/`) && !key.slice(election.length + 1).includes("/")
  for (const group of Map.groupBy(changes.filter(isCandidate), ({ modRevision }) => modRevision).values()) {
    for (const change of group) {
      if (change.type === "put") candidates.set(change.key, change)
      else candidates.delete(change.key)
    }
    let oldest: Change | undefined
    for (const each of candidates.values()) {
      if (
        oldest === undefined || each.createRevision < oldest.createRevision ||
        each.createRevision === oldest.createRevision && each.key < oldest.key
      ) oldest = each
    }
    const next = oldest === undefined ? none : { revision: oldest.modRevision, value: oldest.value }
    if (!isSame(next, leaders.at(-1)!)) leaders.push(next)
  }
  return leaders
}

const none: SeenLeader = { revision: 0n, value: "" }

const isSame = (a: SeenLeader, b: SeenLeader): boolean => a.revision === b.revision && a.value === b.value

/** How often a client's watch of the candidates ended because what it had missed was compacted. */
const compactions = ({ watches }: History.History, client: string, election: string): number =>
  watches.filter(({ ended, request: { range }, ...watch }) =>
    watch.client === client && range._tag === "Prefix" && range.from === `${election}/` &&
    ended?.how._tag === "Failed" && ended.how.reason === "Compacted"
  ).length

/** What an observer missed, saw twice or in another order, and whether it stayed behind, as messages. */
export const find = (
  client: string,
  seen: ReadonlyArray<SeenLeader>,
  changes: Changes,
  history: History.History,
  election: string
): ReadonlyArray<string> => {
  const leaders = leadersOf(changes, election)
  const mayMiss = compactions(history, client, election)
  /** Where in the store's history the observer can be, and how often it must have missed something by then. */
  let places = new Map<number, number>([[-1, 0]])
  for (const [n, one] of seen.entries()) {
    const next = new Map<number, number>()
    for (const [place, missed] of places) {
      for (let i = place + 1; i < leaders.length; i++) {
        const misses = missed + (i === place + 1 ? 0 : 1)
        if (misses > mayMiss) break
        if (isSame(leaders[i]!, one) && misses < (next.get(i) ?? Infinity)) next.set(i, misses)
      }
    }
    if (next.size === 0) {
      return [
        `the observer of ${client} saw ${show(one)} after ${n === 0 ? "nothing" : show(seen[n - 1]!)}, ` +
        `which is not the order of the store`
      ]
    }
    places = next
  }
  return places.has(leaders.length - 1)
    ? []
    : [`the observer of ${client} has not seen the last leaders of ${election}`]
}

const show = ({ revision, value }: SeenLeader): string =>
  revision === 0n ? "no leader" : `the leader ${JSON.stringify(value)} of revision ${revision}`
