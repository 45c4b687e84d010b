/**
 * Descriptions of requests for messages: the operation and its keys, never a value.
 */
import type * as KeyRange from "@effect-kv/core/KeyRange"
import type * as Op from "@effect-kv/core/Op"

/** How many operations or keys of a transaction are named, and how many characters of a key. */
const most = { named: 5, characters: 60 }

export const op = (self: Op.Op): string => {
  switch (self._tag) {
    case "Range":
      return `get ${range(self.range)}`
    case "Put":
      return `put ${key(self.key)}`
    case "Delete":
      return `delete ${range(self.range)}`
    case "Txn": {
      const conditions = list([
        ...new Set(
          self.if.map((compare) => compare.target === "CreatedBefore" ? range(compare.range) : key(compare.key))
        )
      ])
      const operations = list([...self.then, ...self.else].slice(0, most.named + 1).map(op))
      return `txn${conditions === "" ? "" : ` on ${conditions}`}: ${operations}`
    }
  }
}

export const range = (self: KeyRange.KeyRange): string => {
  switch (self._tag) {
    case "Key":
      return key(self.key)
    case "HalfOpen":
      return `the keys from ${key(self.start)} to before ${key(self.end)}`
    case "Prefix":
      if (self.from !== self.prefix) return `the keys from ${key(self.from)}`
      return self.prefix === "" ? "all keys" : `the keys with the prefix ${key(self.prefix)}`
  }
}

const key = (key: string): string =>
  JSON.stringify(key.length > most.characters ? `${key.slice(0, most.characters)}...` : key)

const list = (all: ReadonlyArray<string>): string =>
  all.length > most.named ? `${all.slice(0, most.named).join(", ")}, ...` : all.join(", ")
