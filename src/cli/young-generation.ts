import { getHeapSpaceStatistics, setFlagsFromString } from 'node:v8'

/** With this room for new objects (bytes) it stops growing. */
const ENOUGH_BYTES = 8 * 1_048_576
/** V8 gives room back while little happens, and takes it again. */
const INTERVAL_MS = 1000

const roomForNew = (): number =>
  getHeapSpaceStatistics().find(({ space_name: name }) => name === 'new_space')?.space_size ?? 0

/** V8 multiplies the room by this factor when it is full of objects that live on. */
const regulate = (): void => {
  setFlagsFromString(`--semi-space-growth-factor=${roomForNew() >= ENOUGH_BYTES ? 1 : 2}`)
}

/**
 * Keeps the room for new objects of this process small for as long as it runs. On a machine with much memory V8 lets it
 * grow to 128 MB, more than the rest of the heap; a request needs its objects for a few milliseconds, so that a smaller
 * room costs little. With this it is 16 to 32 MB. The flag `--max-semi-space-size` counts at the start of a process
 * alone, and a program that is started by its name has no flags; the factor is read at each growth.
 */
export const keepYoungGenerationSmall = (): void => {
  regulate()
  // The start of a daemon takes more than one turn of the event loop, and fills it several times.
  const soon = setInterval(regulate, 10).unref()
  setTimeout(() => {
    clearInterval(soon)
    setInterval(regulate, INTERVAL_MS).unref()
  }, INTERVAL_MS).unref()
}
