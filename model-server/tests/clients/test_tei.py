"""`tei.v1` through tei-client and its generated stubs."""

import math
import unittest

import grpc
import numpy as np
from tei_client import GrpcClient
from tei_client.clients.grpc_client import Stubs
from tei_client.models import ModelType, TruncationDirection
from tei_client.stubs import tei_pb2

import node


DIRECTIONS = {
    "": TruncationDirection.Right,
    "end": TruncationDirection.Right,
    "start": TruncationDirection.Left,
}


class Named(
    grpc.UnaryUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
):
    """Names the model in the metadata of every call."""

    def __init__(self, model):
        self.metadata = [("x-switchboard-model", model)]

    def with_name(self, details):
        return details._replace(metadata=[*(details.metadata or []), *self.metadata])

    def intercept_unary_unary(self, call, details, request):
        return call(self.with_name(details), request)

    def intercept_stream_stream(self, call, details, requests):
        return call(self.with_name(details), requests)

    def intercept_stream_unary(self, call, details, requests):
        return call(self.with_name(details), requests)


def client_of(model):
    client = GrpcClient(node.ADDRESS)
    client._stubs = Stubs(grpc.intercept_channel(client.channel, Named(model)))
    return client


class Door(unittest.TestCase):
    def setUp(self):
        self.client = GrpcClient(node.ADDRESS)
        self.stubs = self.client._stubs

    def refuses(self, code, words, call):
        with self.assertRaises(grpc.RpcError) as caught:
            call()
        self.assertEqual(caught.exception.code(), code)
        self.assertIn(words, caught.exception.details())


class Information(Door):
    def test_the_first_embedder_is_told_of_unless_another_model_is_named(self):
        info = self.stubs.info.Info(tei_pb2.InfoRequest())
        self.assertEqual((info.model_id, info.max_input_length), (node.EMBEDDER, 256))
        self.assertEqual(self.client.model_type, ModelType.Embedding)
        self.assertEqual(client_of(node.CROSS_ENCODER).model_type, ModelType.Reranker)
        self.assertEqual(client_of(node.SEQUENCE_CLASSIFIER).model_type, ModelType.Classifier)
        self.refuses(grpc.StatusCode.NOT_FOUND, node.EMBEDDER, client_of("none").info)


class Embedding(Door):
    def test_vectors_are_the_reference_implementations(self):
        goldens = node.goldens(node.EMBEDDER)
        vectors = self.client.embed([golden["text"] for golden in goldens], truncate=True)
        wanted = np.array([golden["vector"] for golden in goldens])
        np.testing.assert_allclose(np.array(vectors), wanted, atol=node.TOLERANCE)

    def test_one_call_gives_what_a_stream_does_and_what_it_took(self):
        for golden in node.goldens(node.EMBEDDER):
            request = tei_pb2.EmbedRequest(inputs=golden["text"], truncate=True, normalize=True)
            reply = self.stubs.embed.Embed(request)
            np.testing.assert_allclose(reply.embeddings, golden["vector"], atol=node.TOLERANCE)
            took = reply.metadata
            self.assertEqual(took.compute_tokens, golden["tokens"])
            self.assertEqual(took.compute_chars, len(golden["text"]))
            self.assertGreater(took.inference_time_ns, 0)
            parts = took.tokenization_time_ns + took.queue_time_ns + took.inference_time_ns
            self.assertLessEqual(parts, took.total_time_ns)

    def test_long_texts_are_refused_unless_they_may_be_cut(self):
        text = "shoes " * 400
        self.refuses(
            grpc.StatusCode.INVALID_ARGUMENT, "truncate", lambda: self.client.embed(text)
        )
        self.assertEqual(len(self.client.embed(text, truncate=True)[0]), 384)

    def test_a_failed_message_ends_its_stream(self):
        texts = ["one", "two", "", "four"]
        replies = self.stubs.embed.EmbedStream(
            iter([tei_pb2.EmbedRequest(inputs=text) for text in texts])
        )
        self.assertEqual([len(next(replies).embeddings) for _ in range(2)], [384, 384])
        self.refuses(grpc.StatusCode.INVALID_ARGUMENT, "inputs", lambda: next(replies))

    def test_what_no_model_makes_is_unimplemented(self):
        self.refuses(
            grpc.StatusCode.UNIMPLEMENTED, "", lambda: self.client.embed_all("shoes")
        )
        sparse = tei_pb2.EmbedSparseRequest(inputs="shoes")
        self.refuses(
            grpc.StatusCode.UNIMPLEMENTED, "sparse", lambda: self.stubs.embed.EmbedSparse(sparse)
        )


class Prompts(Door):
    def test_vectors_after_a_prompt_are_the_reference_implementations(self):
        client = client_of(node.PROMPTED_EMBEDDER)
        rows = [row for row in node.goldens(node.PROMPTED_EMBEDDER) if "dimensions" not in row]
        for (prompt, truncation), group in node.by(rows, "prompt", "truncation"):
            vectors = client.embed(
                [golden["text"] for golden in group],
                truncate=True,
                truncation_direction=DIRECTIONS[truncation],
                prompt_name=prompt or None,
            )
            wanted = np.array([golden["vector"] for golden in group])
            np.testing.assert_allclose(np.array(vectors), wanted, atol=node.TOLERANCE)

    def test_tokens_after_a_prompt_begin_with_its_own(self):
        client = client_of(node.PROMPTED_EMBEDDER)
        (plain,), (prompted,) = (
            client.tokenize("where is my parcel", prompt_name=name) for name in [None, "query"]
        )
        golden = [
            row["tokens"]
            for row in node.goldens(node.PROMPTED_EMBEDDER)
            if row["text"] == "where is my parcel" and row["prompt"] == "query"
        ][0]
        self.assertEqual(len(prompted.tokens), golden)
        ids = [token.id for token in prompted.tokens]
        self.assertEqual(ids[-len(plain.tokens) + 1 :], [token.id for token in plain.tokens[1:]])


class Prediction(Door):
    def test_labels_are_the_reference_implementations_best_first(self):
        goldens = node.goldens(node.SEQUENCE_CLASSIFIER)
        client = client_of(node.SEQUENCE_CLASSIFIER)
        for golden in goldens:
            direction = DIRECTIONS[golden["truncation"]]
            (result,) = client.classify(
                golden["text"], truncate=True, truncation_direction=direction
            )
            scores = [row.score for row in result.scores]
            wanted = sorted(golden["probabilities"], reverse=True)
            np.testing.assert_allclose(scores, wanted, atol=node.TOLERANCE)
        # Many texts come back in their order.
        some = [golden["text"] for golden in goldens[:5]]
        together = [row.scores[0].label for row in client.classify(some)]
        alone = [client.classify(text)[0].scores[0].label for text in some]
        self.assertEqual(together, alone)
        self.assertEqual(len(set(alone)), 5)

    def test_the_first_classifier_of_whole_texts_serves_without_a_name(self):
        predict = self.stubs.predict
        single = predict.Predict(tei_pb2.PredictRequest(inputs="where is my parcel"))
        pair = predict.PredictPair(tei_pb2.PredictPairRequest(inputs=["my parcel", "where is it"]))
        labels = {row.label for row in single.predictions}
        self.assertEqual({row.label for row in pair.predictions}, labels)
        self.assertEqual(len(labels), 5)

    def test_pairs_are_two_texts_and_labels_of_tokens_have_no_place_here(self):
        three = tei_pb2.PredictPairRequest(inputs=["a", "b", "c"])
        self.refuses(
            grpc.StatusCode.INVALID_ARGUMENT, "inputs", lambda: self.stubs.predict.PredictPair(three)
        )
        tokens = client_of(node.TOKEN_CLASSIFIER)
        self.refuses(
            grpc.StatusCode.FAILED_PRECONDITION,
            node.TOKEN_CLASSIFIER,
            lambda: tokens.classify("order 4711"),
        )


class Reranking(Door):
    QUERY = "when is my refund paid"
    TEXTS = ["parcels are sent on monday", "a refund takes five days", "shoes"]

    def ranks(self, client, **options):
        return client.rerank(self.QUERY, self.TEXTS, **options).ranks

    def test_scores_are_the_reference_implementations(self):
        for model, field in [(node.CROSS_ENCODER, "score"), (node.LATE_INTERACTION, "mean")]:
            client = client_of(model)
            for (query, truncation), group in node.by(node.goldens(model), "query", "truncation"):
                direction = DIRECTIONS[truncation]
                result = client.rerank(
                    query,
                    [golden["text"] for golden in group],
                    truncate=True,
                    truncation_direction=direction,
                )
                self.assertEqual(len(result.ranks), len(group))
                for rank in result.ranks:
                    wanted = group[rank.index][field]
                    self.assertAlmostEqual(rank.score, wanted, delta=node.TOLERANCE)

    def test_ranks_are_best_first_with_their_places_and_texts(self):
        for model in [node.CROSS_ENCODER, node.LATE_INTERACTION]:
            client = client_of(model)
            ranks = self.ranks(client, return_text=True)
            scores = [rank.score for rank in ranks]
            self.assertEqual(scores, sorted(scores, reverse=True))
            self.assertEqual([rank.text for rank in ranks], [self.TEXTS[rank.index] for rank in ranks])
            self.assertEqual(sorted(rank.index for rank in ranks), [0, 1, 2])
            self.assertFalse(any(rank.text for rank in self.ranks(client)))

    def test_scores_are_put_into_their_range_unless_raw_ones_are_asked_for(self):
        client = client_of(node.CROSS_ENCODER)
        raw = {rank.index: rank.score for rank in self.ranks(client, raw_scores=True)}
        for rank in self.ranks(client):
            self.assertAlmostEqual(rank.score, 1 / (1 + math.exp(-raw[rank.index])), places=5)

    def test_a_stream_of_texts_is_ranked_like_a_list(self):
        messages = [
            tei_pb2.RerankStreamRequest(query=self.QUERY, text=text, return_text=True)
            for text in self.TEXTS
        ]
        streamed = self.stubs.rerank.RerankStream(iter(messages))
        listed = self.stubs.rerank.Rerank(
            tei_pb2.RerankRequest(query=self.QUERY, texts=self.TEXTS, return_text=True)
        )
        self.assertEqual([r.index for r in streamed.ranks], [r.index for r in listed.ranks])
        self.assertEqual([r.text for r in streamed.ranks], [r.text for r in listed.ranks])
        for one, other in zip(streamed.ranks, listed.ranks, strict=True):
            self.assertAlmostEqual(one.score, other.score, places=5)

    def test_bounds_are_told(self):
        many = tei_pb2.RerankRequest(query="a", texts=["b"] * 1025)
        self.refuses(
            grpc.StatusCode.INVALID_ARGUMENT, "1025", lambda: self.stubs.rerank.Rerank(many)
        )
        empty = tei_pb2.RerankRequest(query="", texts=["b"])
        self.refuses(
            grpc.StatusCode.INVALID_ARGUMENT, "query", lambda: self.stubs.rerank.Rerank(empty)
        )


class Tokenizing(Door):
    def test_tokens_know_their_place_and_join_again(self):
        text = "Hello, Größe"
        (result,) = self.client.tokenize(text)
        self.assertEqual((result.tokens[0].text, result.tokens[0].special), ("[CLS]", True))
        for token in result.tokens[1:-1]:
            self.assertEqual(token.text, text[token.start : token.stop])
        plain = self.client.tokenize(text, add_special_tokens=False)[0]
        self.assertEqual(
            [token.id for token in plain.tokens], [token.id for token in result.tokens[1:-1]]
        )
        self.assertEqual(self.client.decode([token.id for token in result.tokens]), "hello, große")

    def test_a_prompt_that_is_not_there_is_named(self):
        request = tei_pb2.EncodeRequest(inputs="shoes", prompt_name="none")
        self.refuses(
            grpc.StatusCode.INVALID_ARGUMENT,
            "prompt_name",
            lambda: self.stubs.tokenize.Tokenize(request),
        )


if __name__ == "__main__":
    unittest.main()
