import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, it } from 'vitest'

const MODULE = join(import.meta.dirname, '../../src/cli/young-generation.ts')

/** Room for new objects (MB) of a process that has made many which live for a while. */
const roomAfterLoad = async (isKeptSmall: boolean): Promise<number> => {
  const program = `
    import { getHeapSpaceStatistics } from 'node:v8'
    import { setImmediate } from 'node:timers/promises'
    import { keepYoungGenerationSmall } from ${JSON.stringify(MODULE)}
    if (${isKeptSmall}) keepYoungGenerationSmall()
    const last = []
    for (let turn = 0; turn < 200; turn += 1) {
      last[turn % 20] = Array.from({ length: 10_000 }, (_, at) => ({ turn, at }))
      await setImmediate()
    }
    const { space_size: size } = getHeapSpaceStatistics().find(({ space_name: name }) => name === 'new_space')
    console.log(size / 1_048_576)`
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', program])
  return Number(stdout)
}

it('the room for new objects stays small, also under load', async () => {
  expect(await roomAfterLoad(true)).toBeLessThan(await roomAfterLoad(false))
})
