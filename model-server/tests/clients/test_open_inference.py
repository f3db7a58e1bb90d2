"""`inference.GRPCInferenceService` through tritonclient."""

import json
import queue
import struct
import unittest

import grpc
import numpy as np
import tritonclient.grpc as triton
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

import node


def texts_input(texts, name="text", shape=None):
    elements = np.array([text.encode() for text in texts], dtype=np.object_)
    tensor = triton.InferInput(name, shape or [len(texts)], "BYTES")
    tensor.set_data_from_numpy(elements.reshape(shape or [len(texts)]))
    return tensor


def outputs(*names):
    return [triton.InferRequestedOutput(name) for name in names]


class Door(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.client = triton.InferenceServerClient(node.ADDRESS)

    @classmethod
    def tearDownClass(cls):
        cls.client.close()

    def refused(self, code, words, call):
        with self.assertRaises(InferenceServerException) as caught:
            call()
        self.assertEqual(caught.exception.status(), f"StatusCode.{code}")
        self.assertIn(words, caught.exception.message())


class Catalogue(Door):
    def test_the_node_is_alive_and_ready(self):
        self.assertTrue(self.client.is_server_live())
        self.assertTrue(self.client.is_server_ready())

    def test_models_are_ready_if_they_are_loaded(self):
        self.assertTrue(self.client.is_model_ready(node.EMBEDDER))
        self.assertTrue(self.client.is_model_ready(node.EMBEDDER, "1"))
        self.assertFalse(self.client.is_model_ready(node.EMBEDDER, "2"))
        self.assertFalse(self.client.is_model_ready("none"))

    def test_the_node_tells_its_name_and_extensions(self):
        metadata = self.client.get_server_metadata()
        self.assertEqual(metadata.name, "switchboard-model-server")
        self.assertIn("statistics", metadata.extensions)
        self.assertNotIn("system_shared_memory", metadata.extensions)

    def test_tensors_of_each_task_are_told_alike_in_metadata_and_configuration(self):
        kinds = {"TYPE_STRING": "BYTES", "TYPE_FP32": "FP32", "TYPE_FP16": "FP16"}
        wanted = {
            node.EMBEDDER: (["text"], ["embedding", "embedding_fp16"]),
            node.CROSS_ENCODER: (["text", "query"], ["score"]),
            node.LATE_INTERACTION: (["text", "query"], ["score"]),
            node.SEQUENCE_CLASSIFIER: (["text", "second_text"], ["score", "label"]),
            node.TOKEN_CLASSIFIER: (["text"], ["labels"]),
        }
        for model, (takes, gives) in wanted.items():
            metadata = self.client.get_model_metadata(model)
            self.assertEqual([tensor.name for tensor in metadata.inputs], takes)
            self.assertEqual([tensor.name for tensor in metadata.outputs], gives)
            self.assertEqual(list(metadata.versions), ["1"])
            config = self.client.get_model_config(model, as_json=True)["config"]
            told = [(t.name, t.datatype, list(t.shape)) for t in [*metadata.inputs, *metadata.outputs]]
            configured = [
                (t["name"], kinds[t["data_type"]], [int(length) for length in t["dims"]])
                for t in [*config["input"], *config["output"]]
            ]
            self.assertEqual(told, configured)
            self.assertEqual(config["backend"], "onnxruntime")

    def test_the_repository_is_listed(self):
        index = self.client.get_model_repository_index().models
        states = {model.name: (model.version, model.state) for model in index}
        self.assertEqual(states[node.EMBEDDER], ("1", "READY"))
        self.assertEqual([model.name for model in index], sorted(states))

    def test_what_is_not_served_is_unimplemented(self):
        self.refused("UNIMPLEMENTED", "", self.client.get_system_shared_memory_status)
        self.refused("UNIMPLEMENTED", "", self.client.get_trace_settings)
        self.refused("UNIMPLEMENTED", "", self.client.get_log_settings)


class Embedding(Door):
    def test_vectors_are_the_reference_implementations(self):
        goldens = node.goldens(node.EMBEDDER)
        wanted = np.array([golden["vector"] for golden in goldens], dtype=np.float32)
        tensor = texts_input([golden["text"] for golden in goldens])
        result = self.client.infer(node.EMBEDDER, [tensor], request_id="42")
        self.assertEqual(result.get_response().id, "42")
        vectors = result.as_numpy("embedding")
        self.assertEqual((vectors.dtype, vectors.shape), (np.float32, wanted.shape))
        np.testing.assert_allclose(vectors, wanted, atol=node.TOLERANCE)
        halves = result.as_numpy("embedding_fp16")
        self.assertEqual((halves.dtype, halves.shape), (np.float16, wanted.shape))
        np.testing.assert_array_equal(halves, vectors.astype(np.float16))

    def test_prompts_dimensions_and_the_cut_end_are_the_reference_implementations(self):
        rows = node.goldens(node.PROMPTED_EMBEDDER)
        for (prompt, truncation, size), group in node.by(rows, "prompt", "truncation", "dimensions"):
            parameters = {"prompt": prompt, "truncate": truncation, "dimensions": size or 0}
            tensor = texts_input([golden["text"] for golden in group])
            result = self.client.infer(node.PROMPTED_EMBEDDER, [tensor], parameters=parameters)
            wanted = np.array([golden["vector"] for golden in group])
            np.testing.assert_allclose(result.as_numpy("embedding"), wanted, atol=node.TOLERANCE)

    def test_only_the_outputs_that_are_asked_for_are_sent(self):
        result = self.client.infer(
            node.EMBEDDER, [texts_input(["shoes"])], outputs=outputs("embedding_fp16")
        )
        self.assertIsNone(result.as_numpy("embedding"))
        self.assertEqual(result.as_numpy("embedding_fp16").shape, (1, 384))

    def test_a_column_is_taken_like_a_row(self):
        row = self.client.infer(node.EMBEDDER, [texts_input(["shoes", "boots"])])
        column = self.client.infer(node.EMBEDDER, [texts_input(["shoes", "boots"], shape=[2, 1])])
        np.testing.assert_allclose(
            row.as_numpy("embedding"), column.as_numpy("embedding"), atol=node.TOLERANCE
        )

    def test_parameters_are_taken(self):
        def embed(**parameters):
            inputs, wanted = [texts_input(["shoes"])], outputs("embedding")
            return self.client.infer(
                node.EMBEDDER, inputs, outputs=wanted, parameters=parameters or None
            ).as_numpy("embedding")[0]

        whole, unscaled = embed(), embed(normalize=False)
        self.assertAlmostEqual(float(np.linalg.norm(whole)), 1.0, places=5)
        np.testing.assert_allclose(
            unscaled / np.linalg.norm(unscaled), whole, atol=node.TOLERANCE
        )
        cut = embed(dimensions=100)
        np.testing.assert_allclose(
            cut, whole[:100] / np.linalg.norm(whole[:100]), atol=node.TOLERANCE
        )
        np.testing.assert_allclose(embed(no_such_parameter="x"), whole, atol=node.TOLERANCE)

    def test_priorities_and_timeouts_are_taken(self):
        inputs = [texts_input(["shoes"])]
        for priority in [1, 2, 3]:
            self.client.infer(node.EMBEDDER, inputs, priority=priority, timeout=30_000_000)
        self.refused(
            "DEADLINE_EXCEEDED", "", lambda: self.client.infer(node.EMBEDDER, inputs, timeout=1)
        )
        self.refused(
            "INVALID_ARGUMENT",
            "parameters[priority]",
            lambda: self.client.infer(node.EMBEDDER, inputs, priority=9),
        )

    def test_streams_answer_in_order_and_tell_of_failures(self):
        replies = queue.Queue()
        client = triton.InferenceServerClient(node.ADDRESS)
        client.start_stream(lambda result, error: replies.put((result, error)))
        for number in range(8):
            text = "" if number == 5 else f"parcel {number}"
            client.async_stream_infer(node.EMBEDDER, [texts_input([text])], request_id=str(number))
        for number in range(8):
            result, error = replies.get(timeout=60)
            if number == 5:
                self.assertIn("inputs[text][0]", error.message())
            else:
                self.assertIsNone(error)
                self.assertEqual(result.get_response().id, str(number))
                self.assertEqual(result.as_numpy("embedding").shape, (1, 384))
        client.stop_stream()
        client.close()


class OtherTasks(Door):
    def scores(self, model, query, texts, **parameters):
        inputs = [texts_input([query], "query"), texts_input(texts)]
        return self.client.infer(model, inputs, parameters=parameters or None).as_numpy("score")

    def test_scores_are_the_reference_implementations(self):
        for model, field in [(node.CROSS_ENCODER, "score"), (node.LATE_INTERACTION, "mean")]:
            rows = node.goldens(model)
            for (query, truncation), group in node.by(rows, "query", "truncation"):
                texts = [golden["text"] for golden in group]
                scores = self.scores(model, query, texts, truncate=truncation or "end")
                wanted = [golden[field] for golden in group]
                np.testing.assert_allclose(scores, wanted, atol=node.TOLERANCE)

    def test_raw_scores_are_what_the_model_gives(self):
        golden = node.goldens(node.CROSS_ENCODER)[0]
        query, text = golden["query"], golden["text"]
        (raw,) = self.scores(node.CROSS_ENCODER, query, [text], raw_scores=True)
        self.assertAlmostEqual(float(raw), golden["logit"], delta=10 * node.TOLERANCE)

    def test_classes_are_the_reference_implementations(self):
        config = self.client.get_model_config(node.SEQUENCE_CLASSIFIER).config
        labels = json.loads(config.parameters["labels"].string_value)
        for (truncation,), group in node.by(node.goldens(node.SEQUENCE_CLASSIFIER), "truncation"):
            inputs = [texts_input([golden["text"] for golden in group])]
            parameters = {"truncate": truncation}
            result = self.client.infer(node.SEQUENCE_CLASSIFIER, inputs, parameters=parameters)
            scores = result.as_numpy("score")
            wanted = [golden["probabilities"] for golden in group]
            np.testing.assert_allclose(scores, wanted, atol=node.TOLERANCE)
            best = [labels[place].encode() for place in scores.argmax(axis=1)]
            self.assertEqual(list(result.as_numpy("label")), best)

    def test_the_best_classes_come_as_triton_writes_them(self):
        golden = node.goldens(node.SEQUENCE_CLASSIFIER)[0]
        config = self.client.get_model_config(node.SEQUENCE_CLASSIFIER).config
        labels = json.loads(config.parameters["labels"].string_value)
        inputs = [texts_input([golden["text"]])]
        top = triton.InferRequestedOutput("score", class_count=2)
        result = self.client.infer(node.SEQUENCE_CLASSIFIER, inputs, outputs=[top])
        (classes,) = result.as_numpy("score")
        order = np.argsort(golden["probabilities"])[::-1][:2]
        self.assertEqual(len(classes), 2)
        for place, text in zip(order, classes, strict=True):
            score, index, label = text.decode().split(":", 2)
            self.assertEqual((int(index), label), (place, labels[place]))
            wanted = golden["probabilities"][place]
            self.assertAlmostEqual(float(score), wanted, delta=node.TOLERANCE)

    def test_pairs_are_labelled(self):
        inputs = [texts_input(["shoes"]), texts_input(["boots"], "second_text")]
        result = self.client.infer(node.SEQUENCE_CLASSIFIER, inputs)
        self.assertEqual(len(result.as_numpy("label")), 1)
        uneven = [texts_input(["shoes"]), texts_input(["boots", "socks"], "second_text")]
        self.refused(
            "INVALID_ARGUMENT",
            "inputs[second_text]",
            lambda: self.client.infer(node.SEQUENCE_CLASSIFIER, uneven),
        )

    def test_spans_are_the_reference_implementations(self):
        goldens = node.goldens(node.TOKEN_CLASSIFIER)
        inputs = [texts_input([golden["text"] for golden in goldens])]
        result = self.client.infer(node.TOKEN_CLASSIFIER, inputs)
        for golden, spans in zip(goldens, result.as_numpy("labels"), strict=True):
            spans = json.loads(spans)
            found = [[span["start"], span["end"], span["label"]] for span in spans]
            self.assertEqual(found, [span[:3] for span in golden["spans"]], golden["text"])
            scores = [span["score"] for span in spans]
            wanted = [span[3] for span in golden["spans"]]
            np.testing.assert_allclose(scores, wanted, atol=node.TOLERANCE)
        each = self.client.infer(node.TOKEN_CLASSIFIER, inputs, parameters={"each_token": True})
        for golden, tokens in zip(goldens, each.as_numpy("labels"), strict=True):
            found = [[token["start"], token["end"]] for token in json.loads(tokens)]
            self.assertEqual(found, [token[:2] for token in golden["each"]], golden["text"])


class Refusals(Door):
    """Requests that tritonclient would not make by itself go through its generated stub."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.channel = grpc.insecure_channel(node.ADDRESS)
        cls.stub = service_pb2_grpc.GRPCInferenceServiceStub(cls.channel)

    @classmethod
    def tearDownClass(cls):
        cls.channel.close()
        super().tearDownClass()

    def request(self, shape, raw=None, typed=None, datatype="BYTES", model=node.EMBEDDER):
        request = service_pb2.ModelInferRequest(model_name=model)
        tensor = request.inputs.add(name="text", datatype=datatype, shape=shape)
        if typed is not None:
            tensor.contents.bytes_contents.extend(typed)
        if raw is not None:
            request.raw_input_contents.append(raw)
        return request

    def refuses(self, request, words, code=grpc.StatusCode.INVALID_ARGUMENT):
        with self.assertRaises(grpc.RpcError) as caught:
            self.stub.ModelInfer(request)
        self.assertEqual(caught.exception.code(), code)
        self.assertIn(words, caught.exception.details())

    def test_typed_contents_give_what_raw_ones_do(self):
        typed = self.stub.ModelInfer(self.request([2], typed=[b"shoes", "Größe".encode()]))
        raw = self.client.infer(node.EMBEDDER, [texts_input(["shoes", "Größe"])])
        vectors = np.frombuffer(typed.raw_output_contents[0], dtype="<f4").reshape(2, 384)
        np.testing.assert_allclose(vectors, raw.as_numpy("embedding"), atol=node.TOLERANCE)

    def test_contents_that_are_not_what_the_shape_says_are_refused(self):
        one = struct.pack("<I", 5) + b"shoes"
        self.refuses(self.request([2], raw=one), "raw_input_contents[0]")
        self.refuses(self.request([1], raw=one[:-1]), "raw_input_contents[0]")
        self.refuses(self.request([1], raw=one + b"!"), "raw_input_contents[0]")
        self.refuses(self.request([1], raw=b"\xff\xff\xff\xff"), "raw_input_contents[0]")
        self.refuses(self.request([1], raw=one, typed=[b"shoes"]), "inputs[text].contents")
        self.refuses(self.request([2], typed=[b"shoes"]), "inputs[text].contents")
        self.refuses(self.request([-1], typed=[b"shoes"]), "inputs[text].shape")
        self.refuses(self.request([2**62, 2**62], typed=[b"shoes"]), "inputs[text].shape")
        self.refuses(self.request([0], typed=[]), "inputs[text]")
        self.refuses(self.request([1025], typed=[b"a"] * 1025), "1 to 1024")

    def test_texts_that_are_none_are_refused(self):
        self.refuses(self.request([2], typed=[b"a", b"\xff"]), "inputs[text][1]: not UTF-8")
        self.refuses(self.request([1], typed=[b"a" * 32_001]), "32001 characters")
        self.refuses(self.request([1], typed=[b""]), "0 characters")
        self.refuses(self.request([1], typed=[b"a"], datatype="FP32"), "BYTES")

    def test_models_and_versions_that_are_not_there_are_named(self):
        unknown = self.request([1], typed=[b"a"], model="none")
        self.refuses(unknown, node.EMBEDDER, grpc.StatusCode.NOT_FOUND)
        version = self.request([1], typed=[b"a"])
        version.model_version = "7"
        self.refuses(version, "version 1", grpc.StatusCode.NOT_FOUND)
        self.refused("NOT_FOUND", node.EMBEDDER, lambda: self.client.get_model_metadata("none"))

    def test_sequences_and_shared_memory_are_refused(self):
        inputs = [texts_input(["shoes"])]
        self.refused(
            "INVALID_ARGUMENT",
            "sequence",
            lambda: self.client.infer(node.EMBEDDER, inputs, sequence_id=3, sequence_start=True),
        )
        shared = triton.InferInput("text", [1], "BYTES")
        shared.set_shared_memory("region", 64)
        self.refused(
            "INVALID_ARGUMENT",
            "shared_memory_region",
            lambda: self.client.infer(node.EMBEDDER, [shared]),
        )

    def test_inputs_and_outputs_that_are_not_there_are_named(self):
        self.refused(
            "INVALID_ARGUMENT",
            "inputs[sentence]: no such input; the model takes text",
            lambda: self.client.infer(node.EMBEDDER, [texts_input(["a"], "sentence")]),
        )
        self.refused(
            "INVALID_ARGUMENT",
            "outputs[vector]: no such output; the model gives embedding",
            lambda: self.client.infer(
                node.EMBEDDER, [texts_input(["a"])], outputs=outputs("vector")
            ),
        )


class Statistics(Door):
    def counts(self, model):
        (row,) = self.client.get_inference_statistics(model).model_stats
        return row

    def test_requests_are_counted(self):
        model = node.PROMPTED_EMBEDDER
        before = self.counts(model)
        self.client.infer(model, [texts_input(["one", "two", "three"])])
        after = self.counts(model)
        self.assertEqual(after.inference_count - before.inference_count, 3)
        self.assertGreaterEqual(after.execution_count, before.execution_count + 1)
        stats, old = after.inference_stats, before.inference_stats
        self.assertEqual(stats.success.count, old.success.count + 1)
        for part in ["queue", "compute_input", "compute_infer", "compute_output"]:
            self.assertEqual(getattr(stats, part).count, getattr(old, part).count + 1, part)
        self.assertGreater(stats.compute_infer.ns, old.compute_infer.ns)
        self.assertGreaterEqual(after.last_inference, before.last_inference)
        batches = sum(batch.batch_size * batch.compute_infer.count for batch in after.batch_stats)
        self.assertEqual(batches, after.inference_count)

    def test_all_models_are_told_of_when_none_is_named(self):
        names = [row.name for row in self.client.get_inference_statistics().model_stats]
        self.assertIn(node.EMBEDDER, names)
        self.assertEqual(names, sorted(names))


class Control(Door):
    # No other test asks this model.
    MODEL = "tiny-embedder-last"

    def state(self):
        index = self.client.get_model_repository_index().models
        (row,) = [model for model in index if model.name == self.MODEL]
        return row.state, row.reason

    def test_models_are_unloaded_loaded_and_loaded_anew(self):
        inputs = [texts_input(["shoes"])]
        first = self.client.infer(self.MODEL, inputs).as_numpy("embedding")
        self.client.unload_model(self.MODEL)
        self.assertEqual(self.state(), ("UNAVAILABLE", "unloaded"))
        self.assertFalse(self.client.is_model_ready(self.MODEL))
        self.refused("NOT_FOUND", "", lambda: self.client.infer(self.MODEL, inputs))
        self.refused("NOT_FOUND", "", lambda: self.client.unload_model(self.MODEL))
        for _ in range(2):
            self.client.load_model(self.MODEL)
            self.assertEqual(self.state(), ("READY", ""))
            again = self.client.infer(self.MODEL, inputs).as_numpy("embedding")
            np.testing.assert_allclose(again, first, atol=node.TOLERANCE)

    def test_what_is_not_in_the_repository_is_not_loaded(self):
        made_up = ["none", "../models", "/", ""]
        for name in made_up:
            self.refused("NOT_FOUND", "", lambda name=name: self.client.load_model(name))
        listed = {model.name for model in self.client.get_model_repository_index().models}
        self.assertFalse(listed & set(made_up))
        self.refused(
            "INVALID_ARGUMENT",
            "parameters[config]",
            lambda: self.client.load_model(node.EMBEDDER, config="{}"),
        )


if __name__ == "__main__":
    unittest.main()
