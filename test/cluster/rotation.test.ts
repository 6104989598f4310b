import { describe, expect, it } from 'vitest'
import { canCluster } from '../support/cluster.ts'
import { runRotationCampaign } from './rotation-campaign.ts'

describe.skipIf(!canCluster())('rotations on three nodes that are killed', () => {
  it(
    'promise 7, threat 28: nobody is locked out, nothing is lost, nothing rotates twice',
    { timeout: 240_000 },
    async () => {
      // The long form: npm run campaign:rotation
      const report = await runRotationCampaign({
        rotations: 8,
        kills: 2,
        seconds: 60,
        secrets: { postgres: 4, redis: 2 },
      })
      expect(report).toMatchObject({ lockedOut: [], lost: [], doubled: [] })
      expect(report.kills).toBeGreaterThan(0)
      expect(report.rotations.done).toBeGreaterThan(3)
      expect(report.logins).toBeGreaterThan(60)
    },
  )
})
