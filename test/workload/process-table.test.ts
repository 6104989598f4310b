import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import * as fc from 'fast-check'
import { afterEach, describe, expect, it } from 'vitest'
import { ancestryOf, isSameProcess, parseStat, readProcess, userOf } from '../../src/identity/workload/process-table.ts'

const children: ChildProcess[] = []
afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL')
})
/** A shell that starts a sleeping process in the background and says its pid. */
const family = async (): Promise<{ shell: ChildProcess; grandchild: number }> => {
  const shell = spawn('/bin/sh', ['-c', 'sleep 60 & echo $!; wait'], { stdio: ['ignore', 'pipe', 'ignore'] })
  children.push(shell)
  const [line] = (await once(shell.stdout, 'data')) as [Buffer]
  return { shell, grandchild: Number(line.toString()) }
}

describe('the table of processes', () => {
  it('says whose child a process is, whose user it has, and what it descends from', async () => {
    const { shell, grandchild } = await family()
    const { startedAt } = readProcess(grandchild)!
    try {
      expect(readProcess(grandchild)).toMatchObject({ pid: grandchild, parent: shell.pid })
      expect(userOf(grandchild)).toBe(process.getuid!())
      expect(
        ancestryOf({ pid: grandchild, startedAt })
          .slice(0, 3)
          .map(({ pid }) => pid),
      ).toEqual([grandchild, shell.pid, process.pid])
    } finally {
      process.kill(grandchild, 'SIGKILL')
    }
  })

  it('threat 2: a process whose parent has ended descends from it no more, and another start time is another process', async () => {
    const { shell, grandchild } = await family()
    const { startedAt } = readProcess(grandchild)!
    try {
      shell.kill('SIGKILL')
      await once(shell, 'exit')
      expect(ancestryOf({ pid: grandchild, startedAt }).map(({ pid }) => pid)).not.toContain(shell.pid)
      const other = String(Number(startedAt) - 1)
      expect([
        isSameProcess({ pid: grandchild, startedAt }),
        isSameProcess({ pid: grandchild, startedAt: other }),
        ancestryOf({ pid: grandchild, startedAt: other }),
      ]).toEqual([true, false, []])
    } finally {
      process.kill(grandchild, 'SIGKILL')
    }
  })

  it('knows nothing of what is not there', async () => {
    const child = spawn('/bin/true')
    await once(child, 'exit')
    expect([
      readProcess(child.pid!),
      userOf(child.pid!),
      readProcess(4_194_305),
      ancestryOf({ pid: child.pid!, startedAt: '1' }),
    ]).toEqual([undefined, undefined, undefined, []])
  })

  it('is read right whatever a process calls itself', () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 15 }), fc.nat(), (name, parent) => {
        expect(parseStat(`4242 (${name}) S ${parent} 7 7`).slice(0, 2)).toEqual(['S', String(parent)])
      }),
    )
  })
})
