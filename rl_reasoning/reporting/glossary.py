"""What each metric means, one line each, for the report."""

# In the order in which the report shows them; a name that is not here is shown last.
METRICS: dict[str, str] = {
    "reward/mean": "Mean reward of the step's scorable answers. Right answers give 1, wrong ones 0.",
    "reward/right": "Share of the step's answers that are right: Pass@1 on training problems.",
    "policy/entropy": "Mean entropy of the next-token distribution in nats. Falling to 0 is less to explore.",
    "length/mean": "Mean tokens of an answer, the end-of-sequence token included.",
    "length/truncated": "Share of answers that ran out of room before they ended.",
    "length/repetition": "Share of an answer's runs of four tokens that it said before. Towards 1 it goes in circles.",
    "format/share": "Share of answers from which a result could be read, right or wrong.",
    "groups/all_right": "Share of problems with only right answers in this step. Group-relative methods learn nothing.",
    "groups/mixed": "Share of problems with right and wrong answers: where group-relative methods learn.",
    "groups/all_wrong": "Share of problems with only wrong answers in this step.",
    "reward/unscorable": "Share of answers whose check timed out or crashed. Left out, not counted as wrong.",
    "grader/second": "Answers of the step that a second grader judged too.",
    "grader/disagreement": "Share of those on which the two graders disagree. Above 0.01 one is wrong too often.",
    "optimizer/gradient_norm": "Global norm of the gradient before clipping.",
    "ratio/clipped_positive": "Share of tokens with positive advantage and a ratio beyond the upper clip.",
    "ratio/clipped_negative": "Share of tokens with negative advantage and a ratio beyond the lower clip.",
    "ratio/log_max": "Largest log-ratio, up or down, between the trained policy and the one that sampled.",
    "policy/kl_behaviour": "Estimated divergence of the trained policy from the one that sampled; near 0 on-policy.",
    "policy/kl_reference": "Estimated divergence of the trained policy from the one that training started from, in "
    "nats a token.",
    "gradient/right_share": "Share of the policy gradient, as norms at the logits, that comes from right answers.",
    "tokens/selected": "Share of tokens that the objective singled out.",
    "plan/rounds": "Rounds of problems drawn until the batch was informative, or the cap was reached.",
    "plan/first_stage": "Answers drawn to estimate the problems, before the answers were shared out.",
    "plan/rate": "Mean acceptance rate of the step's problems, as estimated when the answers were shared out.",
    "plan/unsampled": "Share of the step's problems that got no answer.",
    "plan/most": "Answers to the problem that got most.",
    "plan/variance_bound": "The bound on the gradient's variance that the shares minimise, over that of shares alike, "
    "by the estimates. Below 1 is a gain.",
    "plan/passed_over": "Problems that were not drawn because their acceptance rate was outside the band.",
    "tokens/generated": "Tokens of all answers drawn in the step, those that are not trained on included.",
    "tokens/padding": "Share of the places in the step's packed rows that hold no token.",
    "analysis/variance": "Variance of the gradient at the output layer, measured on the answers trained on, as an "
    "estimate of the mean over problems.",
    "analysis/variance_alike": "What it were if the same problems had shared the same answers alike.",
    "reuse/answers": "Answers of earlier steps that the step was trained on.",
    "reuse/weight": "Their mean importance weight, cut at the largest. Far from 1 they are of another policy.",
    "plan/informative": "Share of the step's problems with right and wrong answers, after refilling.",
    "kl/coefficient": "Weight of the penalty for leaving the reference policy, as it adapts.",
    "reward/greedy": "Mean reward of the likeliest answers, the baseline of ReMax.",
    "analysis/wrong/sampled": "Probability that a unit step takes from a wrong answer's token, as a mean over tokens.",
    "analysis/wrong/top": "Where it goes: to the five likeliest alternatives.",
    "analysis/wrong/tail": "Where it goes: to all other tokens. Below 0 the tail loses too.",
    "analysis/right/sampled": "Probability that a unit step gives to a right answer's token.",
    "analysis/right/top": "Where it comes from: the five likeliest alternatives.",
    "analysis/right/tail": "Where it comes from: all other tokens.",
    "optimizer/idle": "Share of the step's updates in which no token counted, so that nothing was changed.",
    "optimizer/skipped": "Share of the step's updates left out because their gradient was not finite.",
    "ratio/mean": "Mean probability ratio between the trained policy and the one that sampled; 1 on-policy.",
    "ratio/std": "Standard deviation of that ratio over tokens.",
    "mismatch/max": "Largest gap between a token's log-probability in sampler and trainer before an update. "
    "Anything above rounding error is a bug, unless the sampler is steps behind and nothing corrects for it.",
    "mismatch/weight": "Mean importance weight of the step's tokens, that of the policy which is trained over the one "
    "which sampled, cut at its bound.",
    "mismatch/truncated": "Share of tokens whose importance weight was cut. It grows as the sampler falls behind.",
    "rollout/staleness": "Steps between the policy that drew the answers and the one that begins to learn from them.",
    "loss/policy": "The policy loss. Near zero on-policy is expected: its gradient matters, its value does not.",
    "loss/entropy": "The entropy bonus before its weight: minus the mean entropy of next tokens, in nats.",
    "loss/value": "Loss of the value or critic term.",
    "loss/supervised": "Mean negative log-likelihood of next tokens in nats: of the example answers in the warm start, "
    "of fully right answers in the joint term.",
    "loss/kl": "The penalty for leaving the reference policy, before its weight.",
    "tokens_per_second": "Tokens that the rollout of the step drew in a second of wall time.",
}

EVALUATION: dict[str, str] = {
    "entropy, tokens": "Of the held-out answers: mean next-token entropy in nats, mean tokens an answer.",
    "Pass@k": "Chance that at least one of k answers to a problem is right, by the unbiased estimator from "
    "n >= k answers, as a mean over problems.",
    "95 % interval": "Bootstrap over problems: what other problems of the same kind would give. With several seeds "
    "it is over seeds and problems. An interval of no width at 0 or 100 % means that these problems show no miss "
    "(or no hit), not that there can be none.",
    "change": "Pass@k minus that of the base on the same problems, in points, with the interval of the paired "
    "difference. Unclear: that interval contains zero.",
    "right, wrong": "The answer was read and checked.",
    "partial": "The check gave part of the reward.",
    "unparsable": "No result could be read from the answer. It counts as wrong.",
    "timeout, crash": "The check itself failed. The answer is left out of Pass@k and is never counted as wrong.",
    "logprob": "Log-probability of the whole answer in nats, as it was sampled.",
}
