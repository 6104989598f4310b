import { describe, expect, it } from 'vitest'
import { canCluster } from '../support/cluster.ts'
import { runCampaign } from './campaign.ts'

describe.skipIf(!canCluster())('revocations while nodes are disturbed', () => {
  // The long form is a command: npm run campaign:cluster
  it(
    'promises 3, 4 and 6, threat 30: nothing is served after a confirmed revocation, and nothing acknowledged is lost',
    { timeout: 240_000 },
    async () => {
      const report = await runCampaign({ revocations: 40, seconds: 60, lease: 800, skew: 200, rest: 10 })
      expect(report).toMatchObject({ servedAfter: 0, answeredAfter: 0, recordsLost: 0, chainsHold: true })
      expect(report.revocations).toBeGreaterThan(20)
      expect(report.refreshes.sent).toBeLessThanOrEqual(
        report.refreshes.needed + Object.values(report.disturbances).reduce((sum, count) => sum + count, 0) * 9,
      )
    },
  )
})
