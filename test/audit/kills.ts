import { spawn } from 'node:child_process'
import { createPublicKey, generateKeyPairSync, verify } from 'node:crypto'
import { readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { verifyChains } from '../../src/foundation/audit/verify/verify.ts'
import { openAudit } from '../support/segments.ts'

export interface KillReport {
  readonly kills: number
  readonly acknowledged: number
  readonly records: number
  readonly segments: number
  /** Ends that were cut off because the kill had torn them. */
  readonly torn: number
  readonly missing: readonly string[]
  readonly problems: readonly string[]
}

/** What one process acknowledged until it was killed. */
const runUntilKilled = async (folder: string, prefix: string, after: number): Promise<string[]> => {
  const child = spawn(
    process.execPath,
    [fileURLToPath(new URL('./segment-writer.ts', import.meta.url)), folder, prefix],
    {
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  )
  const acknowledged: string[] = []
  for await (const line of createInterface(child.stdout)) if (acknowledged.push(line) === after) child.kill('SIGKILL')
  return acknowledged
}

/** Kills a writer again and again, each time after another number of records, and looks at what is there. */
export const runKills = async (
  folder: string,
  kills: number,
  report: (line: string) => void = () => undefined,
): Promise<KillReport> => {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  await writeFile(join(folder, 'key.pem'), privateKey.export({ type: 'pkcs8', format: 'pem' }))
  const publicKey = createPublicKey(privateKey)
  const acknowledged: string[] = []
  for (let kill = 1; kill <= kills; kill += 1) {
    acknowledged.push(...(await runUntilKilled(folder, String(kill), 50 + ((kill * 7919) % 1500))))
    report(`kill ${kill} of ${kills}, ${acknowledged.length} records acknowledged`)
  }
  const audit = await openAudit(folder)
  try {
    const { ok, problem } = await verifyChains(audit.store, {
      installation: 'an-installation',
      verifySignature: (_, bytes, signature) =>
        verify('sha256', bytes, { key: publicKey, dsaEncoding: 'ieee-p1363' }, signature),
      isProved: () => false,
    })
    const there = new Set<string>()
    for (let afterSeq = 0; ;) {
      const rows = await audit.store.query({ afterSeq }, { limit: 10_000 })
      if (rows.length === 0) break
      for (const { id } of rows) there.add(id)
      afterSeq = rows.at(-1)!.seq
    }
    return {
      kills,
      acknowledged: acknowledged.length,
      records: there.size,
      segments: (await audit.store.segments!()).length,
      torn: (await readdir(join(folder, 'audit'))).filter((name) => name.includes('.torn-')).length,
      missing: acknowledged.filter((id) => !there.has(id)),
      problems: [...audit.problems, ...(ok ? [] : [problem?.why ?? 'the chain does not hold'])],
    }
  } finally {
    await audit.close()
  }
}
