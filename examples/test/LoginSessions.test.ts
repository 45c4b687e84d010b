/**
 * How to test code that depends on time: the memory store takes all time from Effect's `Clock`, and `it.effect` runs on
 * the `TestClock`. Hours pass when the test advances the clock, without any real waiting.
 */
import { Kv } from "@effect-kv/core"
import { MemoryLayer } from "@effect-kv/memory"
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as TestClock from "effect/testing/TestClock"
import { logIn, logOut, touch } from "../src/LoginSessions.ts"

it.effect("a login lasts while it is used and expires after half an hour without use", () =>
  Effect.gen(function*() {
    assert.isTrue(yield* logIn("ada", "30 minutes"))
    yield* TestClock.adjust("29 minutes")
    assert.isTrue(yield* touch("ada"))
    yield* TestClock.adjust("29 minutes")
    assert.isTrue(yield* touch("ada"))
    yield* TestClock.adjust("31 minutes")
    assert.isFalse(yield* touch("ada"))
    assert.isTrue(Option.isNone(yield* Kv.get("logins/ada")))
  }).pipe(Effect.provide(MemoryLayer.layer)))

it.effect("a user cannot log in twice, but can log in again after logging out", () =>
  Effect.gen(function*() {
    assert.isTrue(yield* logIn("ada", "30 minutes"))
    assert.isFalse(yield* logIn("ada", "30 minutes"))
    yield* logOut("ada")
    yield* logOut("ada")
    assert.isFalse(yield* touch("ada"))
    assert.isTrue(yield* logIn("ada", "30 minutes"))
  }).pipe(Effect.provide(MemoryLayer.layer)))
