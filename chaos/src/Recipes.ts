/**
 * Invariants of recipes, checked by the store's own history: ticks that run once, transfers that keep the total, additions
 * that count once, slots with one owner, members that keep their values, and counts that no update is lost of.
 */
import { type History, TickChecker } from "@effect-kv/test-suite/verification"
import type { Addition, MemberValues, Notes } from "./Notes.ts"
import * as Numbers from "./Numbers.ts"
import * as Rendezvous from "./Rendezvous.ts"
import * as Steps from "./Steps.ts"
import type { Change } from "./Store.ts"
import * as accounts from "./work/accounts.ts"
import * as collections from "./work/collections.ts"
import * as members from "./work/members.ts"
import * as slots from "./work/slots.ts"
import * as sums from "./work/sums.ts"
import * as ticks from "./work/ticks.ts"

type Changes = ReadonlyArray<Change>

/** What the recipes broke, as messages. */
export const find = (
  changes: Changes,
  prefix: string,
  history: History.History,
  notes: Notes
): ReadonlyArray<string> => [
  ...wrongTicks(changes, ticks.jobName(prefix), history.holdings),
  ...wrongTotals(changes, accounts.accountsOf(prefix)),
  ...wrongSums(changes, sums.sumName(prefix), notes.additions),
  ...slots.slotNames(prefix).flatMap((name) => wrongSlots(changes, name)),
  ...Object.entries(notes.members).flatMap(([client, values]) =>
    wrongMember(changes, members.memberKey(prefix, client), values)
  ),
  ...wrongUsers(changes, collections.collectionPrefix(prefix)),
  ...Rendezvous.find(changes, prefix, notes),
  ...Numbers.find(changes, prefix, notes),
  ...Steps.find(changes, prefix, notes)
]

/** No tick is started twice, also not if its runner crashed, and no two runs overlap. */
const wrongTicks = (
  changes: Changes,
  job: string,
  holdings: ReadonlyArray<History.Holding>
): ReadonlyArray<string> => {
  const begun = new Set(holdings.filter(({ lock }) => lock === job).map(({ token }) => token))
  return TickChecker.check(changes, { jobs: [job], onCrash: "skip", begun })
    .map(({ kind, message, revision }) => `${kind} at revision ${revision}: ${message}`)
}

/** The changes of each revision, of the keys that are meant. */
const revisionsOf = (changes: Changes, isMeant: (key: string) => boolean) =>
  Map.groupBy(changes.filter(({ key }) => isMeant(key)), ({ modRevision }) => modRevision)

/** The total of all accounts is the same at every revision. The first revision with another one is reported. */
const wrongTotals = (changes: Changes, keys: ReadonlyArray<string>): ReadonlyArray<string> => {
  const balances = new Map(keys.map((key) => [key, accounts.initial]))
  const expected = keys.length * accounts.initial
  for (const [revision, group] of revisionsOf(changes, (key) => balances.has(key))) {
    for (const { key, value } of group) balances.set(key, accounts.balanceOf(value))
    const total = sumOf(balances.values())
    if (total !== expected) {
      return [
        `the accounts hold ${total} at revision ${revision}, not ${expected}: ${[...balances.values()].join(", ")}`
      ]
    }
  }
  return []
}

/** All amounts are positive, so the sum never goes down. In the end it is what was added, and at most what may have been. */
const wrongSums = (changes: Changes, name: string, additions: ReadonlyArray<Addition>): ReadonlyArray<string> => {
  const totals = new Map<string, number>()
  let sum = 0
  const isTotal = (key: string) => key === `${name}/counter/folded` || key.startsWith(`${name}/counter/total/`)
  for (const [revision, group] of revisionsOf(changes, isTotal)) {
    for (const { key, type, value } of group) totals.set(key, type === "put" ? Number(value) : 0)
    const before = sum
    sum = sumOf(totals.values())
    if (sum < before) return [`the counter ${name} went from ${before} to ${sum} at revision ${revision}`]
  }
  const amounts = (outcome: Addition["outcome"]) =>
    sumOf(additions.filter((addition) => addition.outcome === outcome).map(({ amount }) => amount))
  const added = amounts("Added")
  const unknown = amounts("Unknown")
  return sum >= added && sum <= added + unknown
    ? []
    : [`the counter ${name} is ${sum}; ${added} was added, and the outcome of another ${unknown} is unknown`]
}

/** An index has one owner, which took it when it was free and cool, and only its owner uses it. */
const wrongSlots = (changes: Changes, name: string): ReadonlyArray<string> => {
  const base = `${name}/slots/`
  const owners = new Map<string, bigint>()
  const cooling = new Set<string>()
  const wrong: Array<string> = []
  // All that an index is about is changed by a transaction of its own, in which a release comes with the cool-down.
  for (const { createRevision, key, modRevision, type, value, version } of changes) {
    const isUse = key.startsWith(slots.usedOf(base))
    const slot = isUse ? base + key.split("/").at(-1)! : key.replace("/cooling", "")
    if (!slot.startsWith(base) || slot.startsWith(`${base}queue/`)) continue
    if (key !== slot && !isUse) {
      if (type === "put") cooling.add(slot)
      else cooling.delete(slot)
    } else if (isUse) {
      const owner = owners.get(slot)
      if (type === "put" && slots.tokenOf(value) !== owner) {
        wrong.push(
          `the slot ${slot} was used with token ${slots.tokenOf(value)} at revision ${modRevision}, when ` +
            (owner === undefined ? "it was free" : `token ${owner} owned it`)
        )
      }
    } else if (type === "delete") owners.delete(slot)
    else {
      if (version > 1n) wrong.push(`the slot ${slot} was taken at revision ${modRevision}, when it had an owner`)
      if (cooling.has(slot)) {
        wrong.push(`the slot ${slot} was taken at revision ${modRevision}, when it was cooling down`)
      }
      owners.set(slot, createRevision)
    }
  }
  return wrong
}

/** A member never goes back to an earlier value, and its last value in the store is the last that was written. */
const wrongMember = (changes: Changes, key: string, { known, values }: MemberValues): ReadonlyArray<string> => {
  let last = -1
  for (const change of changes) {
    if (change.key !== key || change.type !== "put") continue
    const index = values.indexOf(members.valueOf(change.value))
    if (index < last) {
      return [`the member ${key} went from ${show(values[last])} to ${show(values[index])} at ${change.modRevision}`]
    }
    last = index
  }
  return last >= known
    ? []
    : [`the last value of ${key} is ${show(values[last])}, although ${show(values[known])} was set`]
}

/** Each update adds one to the count that it read, so none is lost. A value that is not a user counts for nothing. */
const wrongUsers = (changes: Changes, prefix: string): ReadonlyArray<string> => {
  const counts = new Map<string, number>()
  return changes.flatMap(({ key, modRevision, type, value }) => {
    const count = key.startsWith(prefix) && type === "put" ? collections.countOf(value) : undefined
    if (count === undefined) return []
    const before = counts.get(key) ?? 0
    counts.set(key, count)
    return count === before + 1 ? [] : [`the user ${key} went from ${before} to ${count} at revision ${modRevision}`]
  })
}

const show = (value: string | undefined): string => value === undefined ? "an unknown value" : JSON.stringify(value)

const sumOf = (numbers: Iterable<number>): number => [...numbers].reduce((a, b) => a + b, 0)
